# Every network of the zoo, whole, beside PyTorch in float64; then functions and networks written for PyTorch beside it: in an
# environment of its own, as PyTorch is large.

step "the zoo beside PyTorch"
python3 -m venv "$work/torch"
"$work/torch/bin/python" -m pip install --quiet "$wheel[test]" onnx onnxruntime scikit-learn expecttest torch==2.13.0
(cd "$work" && timeout 900 "$work/torch/bin/python" -m pytest -p no:cacheprovider -c "$root/pyproject.toml" -k beside_pytorch \
  "$root/tests/zoo/test_zoo_whole.py") | tee "$work/zoo.log"
if grep -q skipped "$work/zoo.log"; then echo "the zoo was not compared with PyTorch"; exit 1; fi

step "all that is compared with PyTorch, ONNX's own cases, scikit-learn's"
mapfile -t beside < <(cd tests && grep -rlE 'importorskip\("torch|^ *import torch|find_spec\("torch' --include='test_*.py' . \
  | grep -vE '/(cli|interop|measure)/|test_affinity|test_zoo_whole')
(cd "$work" && timeout 1200 "$work/torch/bin/python" -m pytest -p no:cacheprovider -c "$root/pyproject.toml" \
  -k "not instruction_sets" "$root/tests/interop" "${beside[@]/#/$root/tests/}")
rm -rf "$work/torch"
