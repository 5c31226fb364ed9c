.PHONY: build demo test bench wheel format fuzz soak
build:
	scripts/setup
	cmake --preset release >/dev/null && cmake --build --preset release --target aurora_cli
demo: build
	.venv/bin/python scripts/demo
# Threads that wait must not take the cores of a busy machine from those that work.
test: export OMP_WAIT_POLICY = PASSIVE
test:
	scripts/setup --test
	cmake --preset release >/dev/null && cmake --build --preset release
	ctest --preset release && .venv/bin/python -m pytest -q -n 2 --dist loadfile tests
# dist/aurora_optim-*.whl, for this Python and the torch in .venv.
wheel:
	scripts/setup --test
	.venv/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist .
bench: build
	bench/run
format:
	scripts/setup --dev
	git ls-files -co --exclude-standard '*.cpp' '*.hpp' '*.c' '*.h' | xargs clang-format-14 -i
# Seconds for each target.
SECONDS = 60
fuzz:
	scripts/setup --dev
	tests/fuzz/run $(SECONDS)
soak: build
	.venv/bin/python tests/soak
