# Random convolutions against float64, at every instruction set of this machine, and damaged ONNX files: the same for every
# commit, so that a failure is the commit's; longer runs with other seeds are made by hand (docs/testing.md).

step "random convolutions"
for isa in $(cd "$work" && python -c "from fastconv.kernels._runtime import isa_info; print(*isa_info()['available'])"); do
  FASTCONV_ISA=$isa python tests/fuzz_conv.py --seconds 40 --seed 1
done

step "damaged ONNX files"
if python -c "import onnx" 2> /dev/null; then
  python tests/fuzz_onnx.py --cases 13000 --seed 557
else
  skip "damaged ONNX files: the package onnx is not installed"
fi
