# The kernel tests on a build with AddressSanitizer and UndefinedBehaviorSanitizer, at every instruction set of this machine.

step "sanitizers"
libraries=""
for name in libasan.so libubsan.so libstdc++.so; do
  path=$("${CXX:-g++}" -print-file-name=$name 2> /dev/null || true)
  [ -e "$path" ] && libraries="$libraries${libraries:+:}$path"
done
case $libraries in
  *libasan*libubsan*libstdc++*)
    git archive HEAD | (mkdir "$work/sanitized" && tar -x -C "$work/sanitized")
    python -m pip install --quiet "cython>=3.1" "setuptools>=77" "numpy>=2"
    (
      cd "$work/sanitized"
      FASTCONV_SANITIZE=address,undefined python setup.py --quiet build_ext --inplace > "$work/sanitized.log" 2>&1 \
        || { tail -n 40 "$work/sanitized.log"; exit 1; }
      # Python's own allocations are not given back at exit, and NumPy's are not ours
      export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:handle_segv=0 UBSAN_OPTIONS=print_stacktrace=1
      export FASTCONV_TEST_INNER=1 FASTCONV_TEST_EXAMPLES=100 PYTHONPATH=$PWD
      for isa in $(python -c "from fastconv.kernels._runtime import isa_info; print(*isa_info()['available'])" 2> /dev/null \
          || LD_PRELOAD=$libraries python -c "from fastconv.kernels._runtime import isa_info; print(*isa_info()['available'])"); do
        echo "$isa:"
        FASTCONV_ISA=$isa LD_PRELOAD=$libraries python -X faulthandler -m pytest -q -x -p no:cacheprovider tests/kernels \
          > "$work/sanitized.log" 2>&1 || { tail -n 60 "$work/sanitized.log"; exit 1; }
        tail -n 1 "$work/sanitized.log"
      done
    )
    ;;
  *) skip "sanitizers: ${CXX:-g++} lacks their libraries" ;;
esac
