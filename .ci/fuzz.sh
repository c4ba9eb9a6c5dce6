# Random convolutions against float64, at every instruction set of this machine, and damaged ONNX files: other ones for every commit.

step "random convolutions"
for isa in $(cd "$work" && python -c "from fastconv.kernels._runtime import isa_info; print(*isa_info()['available'])"); do
  FASTCONV_ISA=$isa python tests/fuzz_conv.py --seconds 40 --seed "$(git rev-list --count HEAD)"
done

step "damaged ONNX files"
if python -c "import onnx" 2> /dev/null; then
  python tests/fuzz_onnx.py --seconds 60 --seed "$(git rev-list --count HEAD)"
else
  skip "damaged ONNX files: the package onnx is not installed"
fi
