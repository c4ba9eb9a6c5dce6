# What can be seen in the sources: style, types, documentation.

step "ruff"
python -m pip install --quiet ruff
ruff check .

step "mypy"
python -m pip install --quiet mypy
mypy

step "pre-commit configuration"
python -m pip install --quiet pre-commit clang-format
pre-commit validate-config .pre-commit-config.yaml
clang-format --dump-config --style=file:.clang-format > /dev/null
echo valid

step "documentation"
python -m pip install --quiet "sphinx>=7" "myst-parser>=3" furo
python -m sphinx -W --keep-going -q -b html docs "$work/html"
echo "$(find "$work/html" -name '*.html' | wc -l) pages"
