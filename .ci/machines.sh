# Other machines, emulated: an x86-64 without AVX and one with AVX2 run the wheel, aarch64 runs the tests of the headers.

step "processors without AVX-512"
if [ "$(uname -m)" != x86_64 ]; then
  skip "emulated x86-64 processors: this is $(uname -m)"
elif need qemu-x86_64 qemu-user; then
  # NumPy's own OpenBLAS chooses kernels with AVX on the emulated Nehalem, unless told which processor it is
  (cd "$work" && OPENBLAS_CORETYPE=Nehalem qemu-x86_64 -cpu Nehalem "$work/user/bin/python" "$root/.ci/smoke.py" --wheel --isa portable)
  (cd "$work" && qemu-x86_64 -cpu Haswell "$work/user/bin/python" "$root/.ci/smoke.py" --wheel --isa avx2 2> >(grep -v "TCG doesn't support" >&2))
else
  skip "emulated x86-64 processors: $missing"
fi

step "the headers in C++"
need cmake cmake || python -m pip install --quiet cmake
cmake -S tests/cpp -B "$work/headers" > "$work/cmake.log" && cmake --build "$work/headers" -j "$(nproc)" >> "$work/cmake.log" 2>&1 \
  || { tail -n 40 "$work/cmake.log"; exit 1; }
"$work/headers/kernels"

step "the headers in C++, aarch64"
if need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu && need qemu-aarch64 qemu-user; then
  cmake -S tests/cpp -B "$work/aarch64" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ > "$work/cmake.log" \
    && cmake --build "$work/aarch64" -j "$(nproc)" >> "$work/cmake.log" 2>&1 || { tail -n 40 "$work/cmake.log"; exit 1; }
  qemu-aarch64 -L /usr/aarch64-linux-gnu "$work/aarch64/kernels" portable
else
  skip "aarch64: $missing"
fi
