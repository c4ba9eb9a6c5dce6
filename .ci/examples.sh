# The examples, against the installed wheel.

step "examples/cpp"
cmake -S examples/cpp -B "$work/cpp" -DFASTCONV_INCLUDE="$(cd "$work" && "$work/user/bin/python" -c 'import fastconv; print(fastconv.get_include())')" \
  > "$work/cmake.log" && cmake --build "$work/cpp" -j "$(nproc)" >> "$work/cmake.log" 2>&1 || { tail -n 40 "$work/cmake.log"; exit 1; }
"$work/cpp/convolve"

step "examples/cython"
"$work/user/bin/python" -m pip install --quiet "setuptools>=70" "cython>=3.1" wheel
cp -r examples/cython "$work/cython"
"$work/user/bin/python" -m pip install --quiet --no-build-isolation "$work/cython"
(cd "$work" && "$work/user/bin/python" -m channel_pool)
