# Random convolutions against float64, at every instruction set of this machine: other ones for every commit.

step "random convolutions"
for isa in $(cd "$work" && python -c "from fastconv.kernels._runtime import isa_info; print(*isa_info()['available'])"); do
  FASTCONV_ISA=$isa python tests/fuzz_conv.py --seconds 60 --seed "$(git rev-list --count HEAD)"
done
