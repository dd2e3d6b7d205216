# pypoold: one makefile, no recursion over folders. Sources are found by their place: a new .c file needs no line here.
#
#   make            build into build/
#   make help       the targets
#
# Variables: V=1 shows commands, WERROR=1 makes warnings errors, SANITIZE=1 builds with ASan and UBSan into build-asan/,
# CC=clang, BUILD=dir, EXTRA_CFLAGS, PREFIX, DESTDIR.

MAKEFLAGS += --no-builtin-rules --no-print-directory
SHELL := /bin/bash
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
.DEFAULT_GOAL := all

VERSION := $(file < VERSION)
SANITIZE ?=
WERROR ?=
V ?=
BUILD ?= $(if $(SANITIZE),build-asan,build)
PYTHON ?= /usr/bin/python3
ifeq ($(origin CC),default)
CC := gcc
endif

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
SBINDIR ?= $(PREFIX)/sbin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
PKGLIBDIR ?= $(PREFIX)/lib/pypoold
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
MANDIR ?= $(PREFIX)/share/man
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
PYTHONDIR ?= $(PKGLIBDIR)/python
SYSCONFDIR ?= /etc
DESTDIR ?=

# ---- what there is

PROTO_SRC := $(wildcard proto/*.c)
BASE_SRC := $(wildcard daemon/base/*.c)
POOL_SRC := $(wildcard daemon/pool/*.c)
DAEMON_SRC := $(filter-out daemon/main.c,$(wildcard daemon/*.c daemon/*/*.c))
CLIENT_SRC := $(wildcard client/*.c)
CTL_SRC := $(filter-out client/ctl/main.c,$(wildcard client/ctl/*.c))
MAIN_SRC := $(wildcard daemon/main.c client/ctl/main.c)
UNIT_SRC := $(wildcard tests/unit/test_*.c)
HELPER_SRC := $(filter-out $(UNIT_SRC),$(wildcard tests/unit/*.c tests/support/*.c))
SIM_SRC := $(wildcard tests/sim/*.c)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_HELPER_SRC := $(filter-out $(FUZZ_SRC),$(wildcard tests/fuzz/*.c)) tests/sim/sim_timers.c
SIM_IO_SRC := $(wildcard tests/sim/sim_*.c)
HEADERS := $(wildcard proto/*.h daemon/*.h daemon/*/*.h client/*.h client/ctl/*.h \
	tests/unit/*.h tests/sim/*.h tests/fuzz/*.h tests/chaos/stub/*.h tests/support/*.h)
BENCH_SRC := $(wildcard tests/bench/*.c)
STUB_SRC := $(wildcard tests/chaos/stub/*.c)
FAULT_SRC := $(wildcard tests/faults/*.c)
C_FILES := $(PROTO_SRC) $(DAEMON_SRC) $(CLIENT_SRC) $(CTL_SRC) $(MAIN_SRC) $(UNIT_SRC) $(HELPER_SRC) $(SIM_SRC) $(BENCH_SRC) \
	$(FUZZ_SRC) $(FUZZ_HELPER_SRC) $(STUB_SRC) $(FAULT_SRC)
PRODUCT_SRC := $(PROTO_SRC) $(DAEMON_SRC) $(CLIENT_SRC) $(CTL_SRC) $(MAIN_SRC)
WORKER_FILES := $(shell find python_worker -type f -not -path '*/tests/*' -not -path '*/__pycache__/*' -not -path '*/.*')
PYTHON_CLIENT := $(wildcard client/python/pypool_client/*.py client/python/pypool_client/py.typed)
MAN := $(patsubst docs/man/%.scd,$(BUILD)/man/%,$(wildcard docs/man/*.scd))
PYTHON_UNIT := $(wildcard tests/unit/test_*.py tests/python/test_*.py python_worker/tests/test_*.py)
PYTHON_INTEGRATION := $(wildcard tests/integration/test_*.py)
PYTHON_DIAGNOSIS := $(wildcard tests/diagnosis/test_*.py)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
PIC_OBJ := $(call obj,$(PROTO_SRC) $(CLIENT_SRC))
UNIT_BIN := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(UNIT_SRC))
# Tests of daemon/pool/ run in the simulated world: virtual time, scripted workers.
POOL_UNIT_BIN := $(filter $(POOL_SRC:daemon/pool/%.c=$(BUILD)/tests/test_%) \
	$(addprefix $(BUILD)/tests/test_,retry session_close session_order template_lost template_reload),$(UNIT_BIN))
SIM_BIN := $(if $(SIM_SRC),$(BUILD)/tests/sim)
STUB_WORKER := $(BUILD)/tests/stub_worker
FUZZ_BIN := $(FUZZ_SRC:tests/fuzz/fuzz_%.c=$(BUILD)/fuzz/%)
LIBRARY := $(if $(CLIENT_SRC),$(BUILD)/libpypool.so $(BUILD)/libpypool.so.1 $(BUILD)/libpypool.a)
PRODUCT := $(if $(wildcard daemon/main.c),$(BUILD)/pypoold) $(if $(wildcard client/ctl/main.c),$(BUILD)/pypoolctl) \
	$(LIBRARY) $(if $(WORKER_FILES),$(BUILD)/python_worker/.staged) $(MAN)

# ---- how to compile: libraries are looked up once, by .ci/probe, into $(BUILD)/probe*.mk

GOALS := $(or $(MAKECMDGOALS),all)
FREE_GOALS := help deps demo deb bench seeded-bugs soak check check-full check-deb check-asan check-valgrind check-fuzz \
	fuzz fuzz-corpus check-layers lint format clean uninstall
ifneq ($(filter-out $(FREE_GOALS),$(GOALS)),)
include $(BUILD)/probe.mk
endif
ifneq ($(filter tests objects check-unit check-headers $(UNIT_BIN),$(GOALS)),)
include $(BUILD)/probe-tests.mk
endif

$(BUILD)/probe.mk: .ci/probe .ci/packages
	@mkdir -p $(@D)
	@CC='$(CC)' PYTHON='$(PYTHON)' .ci/probe build > $@

$(BUILD)/probe-tests.mk: .ci/probe .ci/packages
	@mkdir -p $(@D)
	@CC='$(CC)' PYTHON='$(PYTHON)' .ci/probe tests > $@

comma := ,
SANITIZER := -fsanitize=address,undefined
OPTIMIZE := $(if $(SANITIZE),-O1 $(SANITIZER) -fno-sanitize-recover=all -fno-omit-frame-pointer,$\
	-O2 -D_FORTIFY_SOURCE=2 -fstack-protector-strong)
CPPFLAGS_ALL = -D_GNU_SOURCE -I. -DPYPOOL_VERSION='"$(VERSION)"' $(PROBE_CFLAGS) $(CPPFLAGS)
CFLAGS_ALL = -std=gnu11 -g $(OPTIMIZE) -Wall -Wextra $(if $(WERROR),-Werror) $(CFLAGS) $(EXTRA_CFLAGS)
LDFLAGS_ALL = -Wl,--as-needed $(if $(SANITIZE),$(SANITIZER),-Wl$(comma)-z$(comma)relro$(comma)-z$(comma)now) $(LDFLAGS)

# Objects are rebuilt when the compiler or its flags change: these files change only then. Suites side by side are several
# makes at once: each writes a file of its own.
NEW := new.$(shell echo $$PPID)
define remember
$(file > $@.$(NEW),$(1))@cmp -s $@.$(NEW) $@ && rm $@.$(NEW) || mv $@.$(NEW) $@
endef

$(BUILD)/flags: FORCE | $(BUILD)/probe.mk
	$(call remember,$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL))

$(BUILD)/place: FORCE | $(BUILD)/probe.mk
	$(call remember,$(PKGLIBDIR))

.PHONY: FORCE
FORCE:

Q := $(if $(V),,@)
say = $(if $(V),@:,@printf '  %-8s%s\n' '$(1)' '$(2)')

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(PART) -MMD -MP -c -o $@ $<

# One set of objects serves the daemon and the shared library.
$(PIC_OBJ): PART = -fPIC -fvisibility=hidden
# Where an installed daemon finds python_worker/, when it is not beside its binary.
$(call obj,$(wildcard daemon/*.c)): PART = -DPYPOOL_LIBDIR='"$(PKGLIBDIR)"'
$(call obj,$(wildcard daemon/*.c)): $(BUILD)/place
$(call obj,$(UNIT_SRC) $(HELPER_SRC)): PART = $(CHECK_CFLAGS)

define link
$(call say,LD,$@)
@mkdir -p $(@D)
$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $(filter %.o %.a,$^)
endef

# ---- the product

.PHONY: all
all: $(PRODUCT) ## build the daemon, pypoolctl, libpypool and the Python side into build/

$(BUILD)/pypoold: $(call obj,daemon/main.c $(DAEMON_SRC) $(PROTO_SRC))
	$(link) $(EV_LIBS) $(MSGPACK_LIBS) $(SYSTEMD_LIBS) $(CONFUSE_LIBS)

$(BUILD)/pypoolctl: $(call obj,client/ctl/main.c $(CTL_SRC) $(CLIENT_SRC) $(PROTO_SRC))
	$(link) $(SMARTCOLS_LIBS) $(MSGPACK_LIBS)

# The static library is one object whose hidden symbols are local: it exports pypool_ names and nothing else.
$(BUILD)/obj/libpypool.o: $(PIC_OBJ)
	$(Q)ld -r -o $@ $(PIC_OBJ) && objcopy --localize-hidden $@

$(BUILD)/libpypool.a: $(BUILD)/obj/libpypool.o
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $<

MAP := $(wildcard client/libpypool.map)
$(BUILD)/libpypool.so.1: $(PIC_OBJ) $(MAP)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -shared -Wl,-soname,libpypool.so.1 \
		$(if $(MAP),-Wl$(comma)--version-script=$(MAP)) $(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs) \
		-o $@ $(PIC_OBJ) $(MSGPACK_LIBS)

$(BUILD)/libpypool.so: $(BUILD)/libpypool.so.1
	$(Q)ln -sf libpypool.so.1 $@

# A copy of python_worker/ beside the binaries, with the system's pure-Python msgpack for interpreters that have none.
$(BUILD)/python_worker/.staged: $(WORKER_FILES) .ci/stage-worker $(BUILD)/probe.mk
	$(call say,STAGE,$(@D))
	$(Q)PYTHON='$(PYTHON)' .ci/stage-worker $(@D)
	@touch $@

$(BUILD)/man/%: docs/man/%.scd VERSION
	$(call say,SCDOC,$@)
	@mkdir -p $(@D)
	$(Q)sed 's/@VERSION@/$(VERSION)/' $< | scdoc > $@

# ---- test programs

.PHONY: tests
tests: $(UNIT_BIN) $(SIM_BIN) $(STUB_WORKER) ## build the C test programs

$(BUILD)/tests/libeverything.a: $(call obj,$(DAEMON_SRC) $(PROTO_SRC) $(CLIENT_SRC) $(CTL_SRC) $(HELPER_SRC))
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $^

$(filter-out $(POOL_UNIT_BIN),$(UNIT_BIN)): $(BUILD)/tests/test_%: $(BUILD)/obj/tests/unit/test_%.o \
		$(BUILD)/tests/libeverything.a
	$(link) $(CHECK_LIBS) $(EV_LIBS) $(MSGPACK_LIBS) $(SYSTEMD_LIBS) $(CONFUSE_LIBS) $(SMARTCOLS_LIBS) -lm

# The simulated world: the same pool/ objects, and tests/sim in the place of daemon/io.
$(BUILD)/tests/libsimulated.a: $(call obj,$(SIM_IO_SRC) $(POOL_SRC) $(BASE_SRC) $(PROTO_SRC) \
		$(addprefix daemon/io/,archive.c cgroup.c cgroups.c core.c mark.c named_fds.c oom.c procfs.c tail.c tasks.c))
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $^

$(POOL_UNIT_BIN): $(BUILD)/tests/test_%: $(BUILD)/obj/tests/unit/test_%.o $(BUILD)/tests/libsimulated.a
	$(link) $(CHECK_LIBS) $(MSGPACK_LIBS) $(SYSTEMD_LIBS) -lm

$(BUILD)/tests/sim: $(call obj,$(filter-out $(SIM_IO_SRC),$(SIM_SRC))) $(BUILD)/tests/libsimulated.a
	$(link) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray $(MSGPACK_LIBS) $(SYSTEMD_LIBS) -lm

# Started and killed thousands of times: static, and never with sanitizers, so that a start takes a millisecond.
$(STUB_WORKER): $(STUB_SRC) $(PROTO_SRC) $(wildcard tests/chaos/stub/*.h proto/*.h) $(BUILD)/flags
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) -std=gnu11 -g -O2 -static -Wall -Wextra $(if $(WERROR),-Werror) -o $@ $(filter %.c,$^) \
		$(MSGPACK_LIBS)

# libFuzzer's: built by make check-fuzz and make fuzz with flags of their own, into build-fuzz/. Workers are puppets and
# the clock stands still, so tests/fuzz is in the place of these parts of the daemon.
FUZZ_REPLACES := daemon/daemon.c daemon/inheritance.c daemon/keeping.c daemon/upgrade.c daemon/vigil.c $(addprefix daemon/io/,loop.c look.c process.c process_adopt.c spawn.c strays.c)
.PHONY: fuzz-programs
fuzz-programs: $(FUZZ_BIN)

$(FUZZ_BIN): $(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/fuzz_%.o \
		$(call obj,$(FUZZ_HELPER_SRC) $(filter-out $(FUZZ_REPLACES),$(DAEMON_SRC)) $(PROTO_SRC))
	$(link) -fsanitize=fuzzer $(MSGPACK_LIBS) $(SYSTEMD_LIBS) $(CONFUSE_LIBS) -lm

-include $(patsubst %.o,%.d,$(call obj,$(C_FILES)))

# ---- checks

JOBS = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))
export PYPOOL_BUILD := $(abspath $(BUILD))
export PYTHON BUILD SANITIZE WERROR CC
PYTEST := $(PYTHON) -B -m pytest
# Most of these tests wait most of the time.
SIDE_BY_SIDE = $$($(PYTHON) -c "import xdist" 2>/dev/null && echo "-n 2 --dist loadfile")

.PHONY: deps demo check check-full check-headers check-layers check-unit check-python check-sim check-integration check-diagnosis \
	check-systemd check-chaos check-chaos-long check-small-worlds check-allocations soak check-fuzz check-asan check-valgrind fuzz \
	fuzz-corpus
deps: ## install the Debian packages that building and testing need (or print the command)
	@.ci/deps build check

demo: ## install what is missing, build, start a daemon in a temporary directory and do real work with it
	@.ci/deps build
	@+$(MAKE) $(JOBS) all
	@.ci/demo $(BUILD)

check: ## install what is missing, build, and run all tests (10 minutes at most)
	@.ci/deps build check
	@+$(MAKE) $(JOBS) all tests
	@+.ci/check headers layers unit "integration + python sim fuzz diagnosis systemd" chaos

# Each of these suites may take longer than all of check.
check-full: ## check, then the long runs, the same under sanitizers, a round under valgrind, and lint (PYPOOL_SUITE_LIMIT=10800 s)
	@+$(MAKE) check
	@.ci/deps build check lint lint-all
	@+PYPOOL_SUITE_LIMIT=$${PYPOOL_SUITE_LIMIT:-10800} .ci/check small-worlds allocations chaos-long kills-long faults deb asan valgrind
	@+$(MAKE) lint

HEADER_OK := $(HEADERS:%=$(BUILD)/headers/%.ok)
PUBLIC_OK := $(if $(wildcard client/pypool.h),$(BUILD)/headers/pypool.c99.ok $(BUILD)/headers/pypool.c++.ok)
check-headers: $(HEADER_OK) $(PUBLIC_OK) ## every header compiles on its own
	@echo "headers: $(words $(HEADER_OK)) compile on their own"

$(BUILD)/headers/%.h.ok: %.h $(BUILD)/flags
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CHECK_CFLAGS) -std=gnu11 -Wall -Wextra -Werror -Wno-unused-function -fsyntax-only \
		-MD -MP -MT $@ -MF $(@:.ok=.d) -include $< -x c /dev/null
	@touch $@

$(BUILD)/headers/pypool.c99.ok: client/pypool.h $(BUILD)/flags
	$(Q)$(CC) -std=c99 -pedantic -Wall -Wextra -Werror -fsyntax-only -include $< -x c /dev/null
	@touch $@

$(BUILD)/headers/pypool.c++.ok: client/pypool.h $(BUILD)/flags
	$(Q)$(CC) -std=c++11 -pedantic -Wall -Wextra -Werror -fsyntax-only -include $< -x c++ /dev/null
	@touch $@

-include $(HEADERS:%=$(BUILD)/headers/%.d)

check-layers: ## includes point only to layers below
	@$(PYTHON) -B tests/support/check_layers.py

check-unit: $(UNIT_BIN) ## unit tests in C
	@.ci/run-programs $(UNIT_BIN)

check-python: $(PRODUCT) ## unit tests in Python
	@$(if $(PYTHON_UNIT),$(PYTEST) $(PYTHON_UNIT),echo "no unit tests in Python")

check-sim: $(SIM_BIN) ## the pool in the simulated world
	@$(SIM_BIN)
	@$(SIM_BIN) --small $(if $(SANITIZE),crashes)

check-small-worlds: $(SIM_BIN) ## everything that may happen in worlds of two or three clients, also the larger ones
	@$(SIM_BIN) --small all --audit

check-allocations: $(SIM_BIN) ## each single allocation of two simulated walks fails, one in a run
	@$(SIM_BIN) --failing all

check-integration: $(PRODUCT) $(STUB_WORKER) ## a real daemon with real workers
	@$(if $(PYTHON_INTEGRATION),$(PYTEST) $(SIDE_BY_SIDE) $(PYTHON_INTEGRATION),echo "no integration tests")

check-diagnosis: $(PRODUCT) ## what callers are told in each scene of failure
	@$(if $(PYTHON_DIAGNOSIS),$(PYTEST) $(PYTHON_DIAGNOSIS),echo "no diagnosis tests")

check-systemd: $(PRODUCT) ## the installed units under a real systemd, on a machine of its own (tests/systemd/box)
	@tests/systemd/box $(PYTEST) tests/systemd || { (($$? == 125)) && [[ -z $$PYPOOL_NEED_BOX || $$EUID != 0 ]]; }
	@tests/systemd/box --hybrid $(PYTEST) tests/systemd/test_limits.py || (($$? == 125))

CHAOS := PYTHONPATH=.:client/python:python_worker $(PYTHON) -B -m tests.chaos.chaos
check-chaos: $(PRODUCT) $(STUB_WORKER) ## many clients and dying workers, the invariants checked (CHAOS_ARGS="--seed 1")
	@$(PYTEST) tests/chaos
	@$(CHAOS) $(CHAOS_ARGS)

check-chaos-long: $(PRODUCT) $(STUB_WORKER) ## the same, ten times as long
	@$(CHAOS) --calls 500000 --kills 5000 $(CHAOS_ARGS)

check-kills-long: $(PRODUCT) ## 1,000 kills of workers with sessions, 50 reloads, 20 upgrades and 100 kills of the daemon, under load
	@PYPOOL_SESSION_KILLS=1000 PYPOOL_RELOADS=50 PYPOOL_UPGRADES=20 $(PYTEST) -s tests/integration/test_sessions.py \
		tests/integration/test_reload.py tests/integration/test_upgrade.py \
		-k "no_kill_shows or drop_no_call or lost_under_load"
	@PYPOOL_DAEMON_KILLS=100 PYPOOL_UPGRADES=20 tests/systemd/box $(PYTEST) -s tests/systemd/test_adoption.py tests/systemd/test_upgrade.py \
		-k "killed_again or meanwhile" || { (($$? == 125)) && [[ -z $$PYPOOL_NEED_BOX || $$EUID != 0 ]]; }

soak: ## chaos runs with one seed after the other, for SOAK_SECONDS=3600 or until one fails
	@+$(MAKE) $(JOBS) all tests
	@$(CHAOS) --seconds $(or $(SOAK_SECONDS),3600) $(CHAOS_ARGS)

FUZZ_MAKE = $(MAKE) CC=clang SANITIZE=1 BUILD=build-fuzz EXTRA_CFLAGS=-fsanitize=fuzzer-no-link $(JOBS) fuzz-programs
NO_CLANG = ! command -v clang >/dev/null && echo "no clang: the fuzz targets are not built"

check-fuzz: ## the fuzz targets over their corpus and a fixed number of new inputs
	@+$(NO_CLANG) || { $(FUZZ_MAKE) && BUILD=build-fuzz .ci/fuzz check; }

fuzz: ## fuzz each target for FUZZ_SECONDS=60 (FUZZ_TARGETS="frame config" chooses)
	@+$(FUZZ_MAKE)
	@BUILD=build-fuzz .ci/fuzz run

fuzz-corpus: ## make the committed corpus from the seeds and what make fuzz has found
	@+$(FUZZ_MAKE)
	@BUILD=build-fuzz .ci/fuzz corpus

check-asan: ## unit tests, simulation, integration, diagnosis and chaos under ASan and UBSan
	@+$(MAKE) SANITIZE=1 BUILD=build-asan $(JOBS) all tests
	@+$(MAKE) SANITIZE=1 BUILD=build-asan PYPOOL_SLOW=3 check-unit check-sim check-integration check-diagnosis check-chaos

# valgrind 3.19 knows no pidfds: unit tests that start processes say that they are skipped, and the daemon of the
# integration tests gets its pidfds from the test, by tests/faults/pidfds.c. Workers are not under valgrind.
VALGRIND := valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite
VALGRIND_INTEGRATION := $(addprefix tests/integration/test_,smoke.py calls.py cancel.py leases.py)
PIDFDS := $(BUILD)/tests/pidfds.so
check-valgrind: ## unit tests, and a real daemon with real workers, under valgrind
	@+$(MAKE) $(JOBS) all tests $(PIDFDS)
	@+CK_TIMEOUT_MULTIPLIER=20 PYPOOL_RUN='$(VALGRIND)' $(MAKE) check-unit
	@PYPOOL_SLOW=10 PYPOOL_RUN='$(VALGRIND)' $(PYTEST) $(VALGRIND_INTEGRATION)

$(PIDFDS): $(call obj,tests/faults/pidfds.c)
	$(link) -shared

$(call obj,tests/faults/pidfds.c): PART = -fPIC

check-faults: $(PRODUCT) ## 200 single allocations of a real daemon fail, chosen by chance (PYPOOL_SEED chooses)
	@PYPOOL_MALLOC_FAULTS=200 $(PYTEST) -s -o faulthandler_timeout=900 tests/integration/test_failing_malloc.py

# With --coverage gcc's own execve() writes the counters down first, as an upgrade of the daemon needs it. The child that
# spawn.c makes shares the daemon's memory, and would begin them anew.
$(call obj,daemon/io/spawn.c): PART = -fno-builtin-execve

COVERAGE_MAKE = $(MAKE) CC=gcc SANITIZE= BUILD=build-cov EXTRA_CFLAGS='--coverage -O1 -U_FORTIFY_SOURCE' \
	PYPOOL_SLOW=2
.PHONY: coverage coverage-run
coverage: ## what unit, sim, python and integration tests run of daemon/ and proto/; fails below COVERAGE_MINIMUM=90 %
	@.ci/deps build check coverage
	@+$(COVERAGE_MAKE) $(JOBS) all tests
	@+$(COVERAGE_MAKE) coverage-run

coverage-run:
	@+.ci/coverage

BENCH_BIN := $(BUILD)/bench/load $(BUILD)/bench/relay
$(BENCH_BIN): $(BUILD)/bench/%: $(call obj,tests/bench/%.c tests/bench/frames.c)
	$(link) $(MSGPACK_LIBS)

.PHONY: seeded-bugs
seeded-bugs: ## put each bug of tests/seeded-bugs in and demand that its test fails
	@.ci/deps build check
	@tests/seeded-bugs/run

.PHONY: bench bench-programs
bench-programs: $(BENCH_BIN) $(STUB_WORKER)

bench: ## speed and memory beside the floors and the peers, in one run (BENCH="latency throughput stateful fairness large memory scale recovery warm")
	@.ci/deps build check
	@+$(MAKE) $(JOBS) all bench-programs
	@$(PYTHON) -B -m tests.bench.bench $(BENCH)

# ---- style

.PHONY: lint format
lint: ## gcc and clang with -Werror, -fanalyzer, clang-tidy, cppcheck, shellcheck, mypy, pyflakes
	@.ci/deps build check lint lint-all
	@+.ci/lint

format: ## format the C files in place
	clang-format -i $(C_FILES) $(HEADERS)

# For .ci/lint: everything compiled and nothing linked, the same without the tests, and clang-tidy over the product.
.PHONY: objects product-objects tidy
objects: $(call obj,$(C_FILES))
product-objects: $(call obj,$(PRODUCT_SRC))
tidy: $(PRODUCT_SRC:%=$(BUILD)/tidy/%.ok)

$(BUILD)/tidy/%.c.ok: %.c $(HEADERS) .clang-tidy $(BUILD)/flags
	$(call say,TIDY,$<)
	@mkdir -p $(@D)
	$(Q)clang-tidy --quiet $< -- $(CPPFLAGS_ALL) -DPYPOOL_LIBDIR='""' -std=gnu11 2>$@.log || { cat $@.log; false; }
	@mv $@.log $@

# ---- installation

DEB := $(abspath $(BUILD)/deb)
.PHONY: deb check-deb
deb: ## build the Debian packages (systemd/debian) into build/deb
	@.ci/deps build deb
	@.ci/deb $(DEB)

check-deb: ## the packages: lintian; install, use, upgrade, remove and purge them on a machine of its own (tests/packages)
	@.ci/deps build check deb check-deb
	@DEB_BUILD_OPTIONS=nocheck .ci/deb $(DEB)
	@.ci/lintian $(DEB)
	@tests/systemd/box $(PYTEST) tests/packages || { (($$? == 125)) && [[ -z $$PYPOOL_NEED_BOX || $$EUID != 0 ]]; }

UNITS := $(foreach at,. @.,pypoold$(at)service pypoold$(at)socket pypoold-admin$(at)socket) \
	pypoold-metrics.socket pypoold-metrics@.service
PLACES = sed -e 's,/usr/sbin/,$(SBINDIR)/,; s,/usr/bin/pypoolctl,$(BINDIR)/pypoolctl,'
# pypoold@NAME is the same with a configuration, a socket and directories of its own.
INSTANCE := 's,\(pypoold\|pypoold-admin\)\.\(socket\|service\),\1@%i.\2,g; s,/etc/pypoold/,&%i/,; s,/run/pypoold/,/run/pypoold-%i/,g; $\
	s,Directory=pypoold,&-%i,; s,^Description=.*,& (%i),'
.PHONY: install uninstall clean help
install: all ## install (DESTDIR, PREFIX=/usr/local)
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR)
	install -m 755 $(BUILD)/pypoold $(DESTDIR)$(SBINDIR)/pypoold
	install -m 755 $(BUILD)/pypoolctl $(DESTDIR)$(BINDIR)/pypoolctl
	install -m 644 $(BUILD)/libpypool.so.1 $(BUILD)/libpypool.a $(DESTDIR)$(LIBDIR)/
	ln -sf libpypool.so.1 $(DESTDIR)$(LIBDIR)/libpypool.so
	install -m 644 client/pypool.h $(DESTDIR)$(INCLUDEDIR)/pypool.h
	sed 's,@PREFIX@,$(PREFIX),; s,@LIBDIR@,$(LIBDIR),; s,@INCLUDEDIR@,$(INCLUDEDIR),; s,@VERSION@,$(VERSION),' \
		client/libpypool.pc.in | install -m 644 /dev/stdin $(DESTDIR)$(LIBDIR)/pkgconfig/libpypool.pc
	install -d $(DESTDIR)$(PKGLIBDIR)
	rm -rf $(DESTDIR)$(PKGLIBDIR)/python_worker
	cp -r $(BUILD)/python_worker $(DESTDIR)$(PKGLIBDIR)/
	find $(DESTDIR)$(PKGLIBDIR)/python_worker -name __pycache__ -prune -exec rm -r {} +
	rm $(DESTDIR)$(PKGLIBDIR)/python_worker/.staged
	chmod -R u=rwX,go=rX $(DESTDIR)$(PKGLIBDIR)/python_worker # whatever the umask of the build was: workers read it
	install -d $(DESTDIR)$(PYTHONDIR)/pypool_client
	install -m 644 $(PYTHON_CLIENT) $(DESTDIR)$(PYTHONDIR)/pypool_client/
	for page in $(MAN); do install -D -m 644 -t $(DESTDIR)$(MANDIR)/man$${page##*.} $$page || exit; done
	install -D -m 644 client/ctl/pypoolctl.bash $(DESTDIR)$(COMPLETIONDIR)/pypoolctl
	install -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSUSERSDIR) $(DESTDIR)$(SYSCONFDIR)/pypoold/conf.d
	for unit in pypoold.service pypoold.socket pypoold-admin.socket; do \
		$(PLACES) systemd/$$unit | install -m 644 /dev/stdin $(DESTDIR)$(UNITDIR)/$$unit && \
		$(PLACES) -e $(INSTANCE) systemd/$$unit | \
			install -m 644 /dev/stdin $(DESTDIR)$(UNITDIR)/$${unit/./@.} || exit; done
	$(PLACES) systemd/pypoold-metrics@.service | \
		install -m 644 /dev/stdin $(DESTDIR)$(UNITDIR)/pypoold-metrics@.service
	install -m 644 systemd/pypoold-metrics.socket $(DESTDIR)$(UNITDIR)/
	install -m 644 systemd/sysusers.d/pypoold.conf $(DESTDIR)$(SYSUSERSDIR)/
	test -e $(DESTDIR)$(SYSCONFDIR)/pypoold/pypoold.conf || \
		install -m 644 systemd/pypoold.conf $(DESTDIR)$(SYSCONFDIR)/pypoold/pypoold.conf
	$(if $(DESTDIR),,ldconfig || true)

uninstall: ## remove what install put there; the configuration stays
	rm -f $(DESTDIR)$(SBINDIR)/pypoold $(DESTDIR)$(BINDIR)/pypoolctl $(DESTDIR)$(LIBDIR)/libpypool.so \
		$(DESTDIR)$(LIBDIR)/libpypool.so.1 $(DESTDIR)$(LIBDIR)/libpypool.a $(DESTDIR)$(INCLUDEDIR)/pypool.h \
		$(DESTDIR)$(LIBDIR)/pkgconfig/libpypool.pc $(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITS)) \
		$(DESTDIR)$(SYSUSERSDIR)/pypoold.conf $(DESTDIR)$(COMPLETIONDIR)/pypoolctl
	rm -f $(foreach page,$(notdir $(MAN)),$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(page))
	rm -rf $(DESTDIR)$(PKGLIBDIR) $(DESTDIR)$(PYTHONDIR)/pypool_client

clean: ## remove build/, build-asan/, build-cov/ and build-fuzz/
	rm -rf build build-asan build-cov build-fuzz

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 24
