# Builds, tests and measures Pulsewheel. One non-recursive file; `make help` lists the targets.
#
# Every flavour (release, asan, tsan, fuzz) has an object tree of its own below build/: switching
# between them rebuilds nothing. Sources are found by where they lie: those below core/, proto/ and
# net/ are a library, those below tools/NAME/ are the program build/NAME, and each *_test.cc below
# tests/ and each bench/*_bench.cc is a program. Adding a file needs no line here.

# -------------------------------------------------------------------------------------- settings
# Any of these may be given on the command line: make MARCH=native.
BUILD ?= build
# Where `make install` puts things; DESTDIR before all of them, for a package.
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=
MARCH ?=
CXX ?= g++
ifeq ($(origin CXX),default)
CXX := g++
endif
FUZZ_CXX ?= clang++-19
FUZZ_RUNS ?= 1000000
CONVERSATIONS ?= 1000000
TLS_SEEDS ?= 20000
SEEDS ?= 1..10000

# Flags for what `make run`, density, million, sim, bench and versus start; a flag given here wins.
ARGS ?=

# ------------------------------------------------------------------------------- how make behaves
MAKEFLAGS += --no-builtin-rules --no-builtin-variables
# Compilers that run at once do not write into each other's errors. What runs for minutes is shown
# while it runs: synchronised output comes at the end, and no terminal is seen behind it.
SHOWN_LIVE := run density million sim bench versus anomaly-study heartbeat-study test plain \
              asan tsan fuzz tls-peers tls-attacks
ifeq ($(filter $(SHOWN_LIVE),$(MAKECMDGOALS)),)
MAKEFLAGS += --output-sync=target
endif
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif
ifneq ($(filter run,$(MAKECMDGOALS)),)
ifeq ($(wildcard $(BUILD)/pulseload),)
$(info make run: the first time about 2 minutes on 2 cores, nearly all of it compiling; then 30 s.)
endif
endif
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all

# -------------------------------------------------------------------------------------- flavours
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor \
            -Wold-style-cast -Wunused -Wimplicit-fallthrough -Werror
# g++ 12 sees overlapping copies in "literal" + std::string (its bug 105651); clang does not warn.
WARNINGS_gcc := $(if $(findstring clang,$(CXX)),,-Wno-restrict)
CXXFLAGS_common := -std=c++20 -g1 -pthread -I. -fno-omit-frame-pointer $(WARNINGS)
CXXFLAGS_release := -O3 $(WARNINGS_gcc) $(if $(MARCH),-march=$(MARCH))
# Tests compile in two thirds of the time so. What they instantiate of headers is not as shipped;
# the library and the programs are.
$(BUILD)/release/tests/%.o: CXXFLAGS_release += -O1
CXXFLAGS_asan := -O1 $(WARNINGS_gcc) -DPULSE_AUDIT=1 -fsanitize=address,undefined \
                 -fno-sanitize-recover=all
# g++ 12 takes a member of std::regex, which cpp-httplib has, for uninitialised where ASan watches
# (its bug 105562).
$(BUILD)/asan/net/control/control.o $(BUILD)/asan/net/observe/trace_exporter.o: CXXFLAGS_asan += \
    $(if $(findstring clang,$(CXX)),,-Wno-maybe-uninitialized)
# Tests are macros for the most part, and compile in a third of the time so. The library and the
# fuzzers are optimised and have these checks.
$(BUILD)/asan/tests/%.o: CXXFLAGS_asan += -O0 -fno-sanitize=null,alignment,vptr
CXXFLAGS_tsan := -O1 $(WARNINGS_gcc) -DPULSE_AUDIT=1 -DPULSE_TSAN=1 -fsanitize=thread
CXXFLAGS_fuzz := -O2 -DPULSE_AUDIT=1 -DPULSE_FUZZ=1 -fsanitize=fuzzer-no-link,address,undefined \
                 -fno-sanitize-recover=all
# What a fuzzer reaches in the simulated kernel is of no interest, and tracing it is slow.
$(BUILD)/fuzz/net/sim/%.o: CXXFLAGS_fuzz += -fno-sanitize=fuzzer-no-link
# The linker takes of the libraries that it is given only those that are used.
LDFLAGS_common := -pthread -Wl,--as-needed
LDFLAGS_release := $(LDFLAGS_common)
LDFLAGS_asan := $(LDFLAGS_common) -fsanitize=address,undefined
LDFLAGS_tsan := $(LDFLAGS_common) -fsanitize=thread
LDFLAGS_fuzz := $(LDFLAGS_common) -fsanitize=fuzzer,address,undefined
CXX_release = $(CXX)
CXX_asan = $(CXX)
CXX_tsan = $(CXX)
CXX_fuzz = $(FUZZ_CXX)

# ------------------------------------------------------------------------------------- libraries
# Each program is linked to what it uses and to nothing else: tests/structure_test.py compares these
# lists with what the linker found used.
LIBS_pulsewheel := -luring -lsimdjson -lfmt -lssl -lcrypto -lz -lcpp-httplib -lprometheus-cpp-core
LIBS_pulseload := -lsimdjson -lfmt -lssl -lcrypto -lz
LIBS_pulsesim := -lsimdjson -lfmt -lssl -lcrypto -lz
LIBS_pulsectl := -lsimdjson -lfmt
LIBS_client := -lsimdjson -lfmt -lssl -lcrypto -lz
LIBS_any := $(sort $(LIBS_pulsewheel) $(LIBS_pulseload) $(LIBS_pulsesim) $(LIBS_pulsectl))
LIBS_test := -lgtest -lgtest_main $(LIBS_any)
LIBS_bench := -lbenchmark -lbenchmark_main $(LIBS_any)

# What Debian compiled cpp-httplib with: its classes have other sizes without these.
HTTPLIB := -DCPPHTTPLIB_OPENSSL_SUPPORT -DCPPHTTPLIB_ZLIB_SUPPORT -DCPPHTTPLIB_BROTLI_SUPPORT
CXXFLAGS_net/control := $(HTTPLIB)
CXXFLAGS_net/observe := $(HTTPLIB)

# --------------------------------------------------------------------------------------- sources
# $(1) folder, $(2) pattern of the names of files in it or below
below = $(wildcard $(1)/$(2) $(1)/*/$(2) $(1)/*/*/$(2) $(1)/*/*/*/$(2))

LIB_SOURCES := $(foreach layer,core proto net,$(call below,$(layer),*.cc))
PROGRAMS := $(patsubst tools/%/main.cc,%,$(wildcard tools/*/main.cc))
TESTS := $(patsubst %.cc,%,$(call below,tests,*_test.cc))
THREAD_TESTS := $(filter %_thread_test,$(TESTS))
SCRIPT_TESTS := $(wildcard tests/*_test.py tests/*/*_test.py)
SUPPORT_SOURCES := $(wildcard tests/support/*.cc)
BENCHES := $(patsubst %.cc,%,$(wildcard bench/*_bench.cc))
STUDY_SOURCES := $(wildcard bench/anomaly/*.cc)
BEATS_SOURCES := $(wildcard bench/heartbeat/*.cc)
# What a test runs again.
BEATS_PARTS := $(filter-out %/study.cc,$(BEATS_SOURCES))
FUZZERS := $(patsubst %.cc,%,$(wildcard tests/fuzz/*_fuzz.cc))
# Each a program of one file, as a user of the library would write it.
EXAMPLES := $(patsubst %.cc,%,$(wildcard tools/client/examples/*.cc))
TOOL_SOURCES := $(filter-out $(EXAMPLES:%=%.cc),$(call below,tools,*.cc))
ALL_SOURCES := $(LIB_SOURCES) $(TOOL_SOURCES) $(EXAMPLES:%=%.cc) $(SUPPORT_SOURCES) \
               $(TESTS:%=%.cc) $(BENCHES:%=%.cc) $(STUDY_SOURCES) $(BEATS_SOURCES) $(FUZZERS:%=%.cc)
# What programs are made of besides main(), so that tests can link it.
TOOL_PARTS := $(filter-out %/main.cc,$(TOOL_SOURCES))

.PHONY: FORCE all help run density million test plain asan tsan sanitized sim bench bench-build \
        versus anomaly-study heartbeat-study fuzz conversations tls-peers tls-attacks tidy format \
        format-check clean install uninstall deb deps deps-bench deps-clients deps-deb deps-fuzz \
        deps-tidy

all: $(EXAMPLES:tools/client/%=$(BUILD)/%)
all: $(PROGRAMS:%=$(BUILD)/%) compile_commands.json ## build every program into build/ (the default)

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  variables: MARCH=native (tune for this machine), BUILD=DIR, CXX, FUZZ_RUNS=N, SEEDS=A..B,"
	@echo "             CONVERSATIONS=N, TLS_SEEDS=N, PREFIX=/usr/local, SYSCONFDIR=/etc, DESTDIR="
	@echo "             ARGS='FLAGS' of what run, density, million, sim, bench, versus start"

# ---------------------------------------------------------------------------------- dependencies
# The stamp makes a no-op build skip even the package query; a changed script makes it anew.
deps: $(BUILD)/.deps-build ## install the packages that building and testing need, if missing
deps-bench: $(BUILD)/.deps-bench
deps-deb: $(BUILD)/.deps-deb
deps-fuzz: $(BUILD)/.deps-fuzz
deps-tidy: $(BUILD)/.deps-tidy
deps-clients: $(BUILD)/.deps-clients ## install the WebSocket clients that tests/clients/ needs
$(BUILD)/.deps-%: tools/install-deps.sh
	@mkdir -p $(@D)
	@tools/install-deps.sh $*
	@touch $@
# A client that cannot be installed is a test that is skipped by name; the next run tries again.
$(BUILD)/.deps-clients: tools/install-deps.sh tests/clients/package-lock.json | $(BUILD)/.deps-build
	@tools/install-deps.sh clients && touch $@ || echo "  clients that are missing will be skipped"

# -------------------------------------------------------------------------------------- compiling
# $(1) flavour
define flavour_rules
$(BUILD)/$(1)/%.o: %.cc | $(BUILD)/.deps-build
	@mkdir -p $$(@D)
	@echo "  cxx   $(1)  $$<"
	@$$(CXX_$(1)) $$(CXXFLAGS_common) $$(CXXFLAGS_$(1)) $$(CXXFLAGS_$$(<D)) -MMD -MP -c $$< -o $$@
$(BUILD)/$(1)/libpulse.a: $(LIB_SOURCES:%.cc=$(BUILD)/$(1)/%.o)
	@rm -f $$@ && ar rcs $$@ $$^
$(BUILD)/$(1)/libsupport.a: $(SUPPORT_SOURCES:%.cc=$(BUILD)/$(1)/%.o)
	@mkdir -p $$(@D) && rm -f $$@ && ar rcs $$@ $$^
$(BUILD)/$(1)/libtools.a: $(TOOL_PARTS:%.cc=$(BUILD)/$(1)/%.o)
	@mkdir -p $$(@D) && rm -f $$@ && ar rcs $$@ $$^
$(BUILD)/$(1)/tests/tools/%_test: $(BUILD)/$(1)/tests/tools/%_test.o $(BUILD)/$(1)/libsupport.a \
                                  $(BUILD)/$(1)/libtools.a $(BUILD)/$(1)/libpulse.a
	@echo "  link  $(1)  $$@"
	@$$(CXX_$(1)) $$(LDFLAGS_$(1)) $$^ $$(LIBS_test) -o $$@
$(BUILD)/$(1)/%_test: $(BUILD)/$(1)/%_test.o $(BUILD)/$(1)/libsupport.a $(BUILD)/$(1)/libpulse.a
	@echo "  link  $(1)  $$@"
	@$$(CXX_$(1)) $$(LDFLAGS_$(1)) $$^ $$(LIBS_test) -o $$@
endef
$(foreach flavour,release asan tsan fuzz,$(eval $(call flavour_rules,$(flavour))))

# What pulseload's reports say of its build. The file changes with the revision, and only then.
REVISION = $(shell git --no-optional-locks describe --always --dirty --abbrev=12 --exclude '*' \
                   2>/dev/null || echo unknown)
$(BUILD)/.revision: FORCE
	@mkdir -p $(@D)
	@echo '$(REVISION)' | cmp -s - $@ || echo '$(REVISION)' >$@
$(BUILD)/release/tools/pulseload/run/build_info.o: $(BUILD)/.revision
$(BUILD)/release/tools/pulseload/run/build_info.o: CXXFLAGS_tools/pulseload/run = \
    -DPULSE_GIT_REVISION='"$(REVISION)"' \
    -DPULSE_BUILD_FLAGS='"$(CXXFLAGS_common) $(CXXFLAGS_release)"'

# The assembler reads the files of the live page, which the compiler does not see.
$(foreach flavour,release asan tsan fuzz,$(BUILD)/$(flavour)/tools/pulsewheel/page/files.o): \
    $(wildcard tools/pulsewheel/page/*)

# $(1) program: every source of its folder, and what all programs share, linked into build/NAME
MANUAL_SOURCES := $(call below,tools/manual,*.cc)
define program_rules
$(BUILD)/$(1): $(patsubst %.cc,$(BUILD)/release/%.o,$(call below,tools/$(1),*.cc)) \
               $(MANUAL_SOURCES:%.cc=$(BUILD)/release/%.o) \
               $(BUILD)/release/libpulse.a
	@echo "  link  release  $$@"
	@$$(CXX) $$(LDFLAGS_release) $$^ $$(LIBS_$(1)) -o $$@
endef
$(foreach program,$(PROGRAMS),$(eval $(call program_rules,$(program))))

$(BUILD)/examples/%: $(BUILD)/release/tools/client/examples/%.o $(BUILD)/release/libpulse.a
	@mkdir -p $(@D)
	@echo "  link  release  $@"
	@$(CXX) $(LDFLAGS_release) $^ $(LIBS_client) -o $@

$(BUILD)/release/%_bench: $(BUILD)/release/%_bench.o $(BUILD)/release/libpulse.a
	@echo "  link  release  $@"
	@$(CXX) $(LDFLAGS_release) $^ $(LIBS_bench) -o $@
# They sign what they check, and serve a certificate.
$(BUILD)/release/bench/auth_bench: $(BUILD)/release/tests/support/tokens.o
$(BUILD)/release/bench/loop_bench: $(BUILD)/release/tests/support/certificates.o
$(BUILD)/fuzz/%_fuzz: $(BUILD)/fuzz/%_fuzz.o $(BUILD)/fuzz/libpulse.a
	@echo "  link  fuzz  $@"
	@$(FUZZ_CXX) $(LDFLAGS_fuzz) $^ $(LIBS_any) -o $@
# The benches need packages that a build does not.
$(BENCHES:%=$(BUILD)/release/%.o): | $(BUILD)/.deps-bench
$(FUZZERS:%=$(BUILD)/fuzz/%.o) $(LIB_SOURCES:%.cc=$(BUILD)/fuzz/%.o): | $(BUILD)/.deps-fuzz

-include $(shell find $(BUILD) -type f -name '*.d' 2>/dev/null)

compile_commands.json: Makefile $(ALL_SOURCES)
	@{ echo '['; sep=''; for f in $(sort $(ALL_SOURCES)); do \
	    printf '%s{"directory":"%s","file":"%s","command":"$(CXX) %s -c %s"}\n' "$$sep" "$(CURDIR)" \
	        "$$f" '$(CXXFLAGS_common) $(CXXFLAGS_release)' "$$f"; sep=','; done; echo ']'; } > $@

# ---------------------------------------------------------------------------------------- testing
RUN_TESTS := python3 tests/run.py

# What runs where: everything plain and under ASan+UBSan, what crosses threads under TSan.
plain: $(BUILD)/.deps-clients $(TESTS:%=$(BUILD)/release/%) all ## the tests, without a sanitizer
	@BUILD=$(BUILD) $(RUN_TESTS) plain $(TESTS:%=$(BUILD)/release/%) $(SCRIPT_TESTS)
asan: $(TESTS:%=$(BUILD)/asan/%) ## the tests under AddressSanitizer and UBSan
	@BUILD=$(BUILD) $(RUN_TESTS) asan $(TESTS:%=$(BUILD)/asan/%)
tsan: $(THREAD_TESTS:%=$(BUILD)/tsan/%) ## what crosses threads, under ThreadSanitizer
	@BUILD=$(BUILD) $(RUN_TESTS) tsan $(THREAD_TESTS:%=$(BUILD)/tsan/%)
# What runs under a sanitizer is compiled while the system tests wait.
SANITIZED := $(TESTS:%=$(BUILD)/asan/%) $(THREAD_TESTS:%=$(BUILD)/tsan/%)
sanitized: $(SANITIZED)
# A recipe with a make in it runs although make was only asked what it would run (-n).
WOULD_RUN := $(findstring n,$(firstword -$(MAKEFLAGS)))
SECOND_MAKE = $(MAKE) --no-print-directory
test: $(BUILD)/.deps-clients $(TESTS:%=$(BUILD)/release/%) all
test: ## install, build and run all tests in every flavour
	$(if $(WOULD_RUN),,+)@BUILD=$(BUILD) $(RUN_TESTS) --meanwhile '$(SECOND_MAKE) sanitized' \
	    plain $(TESTS:%=$(BUILD)/release/%) $(SCRIPT_TESTS) \
	    : asan $(TESTS:%=$(BUILD)/asan/%) : tsan $(THREAD_TESTS:%=$(BUILD)/tsan/%)

LOAD_PAIR := $(BUILD)/pulsewheel $(BUILD)/pulseload
run: $(LOAD_PAIR) ## show it: a server, 20,000 connections for 20 s, what happened, a page
	@BUILD=$(BUILD) tools/perf/demo.sh $(ARGS)
density: $(LOAD_PAIR) ## what an idle connection costs, in bytes
	@BUILD=$(BUILD) tools/perf/density.sh $(ARGS)
million: $(LOAD_PAIR) ## a million connections, both ends here: about 15 minutes, 9 GiB
	@BUILD=$(BUILD) tools/perf/million.sh $(ARGS)

INSTALL := BUILD='$(BUILD)' PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' DESTDIR='$(DESTDIR)' \
           tools/deploy/install.sh
install: $(PROGRAMS:%=$(BUILD)/%) ## programs, man pages, completions, unit (PREFIX=, DESTDIR=)
	@$(INSTALL) install $(PROGRAMS)
uninstall: ## remove what install put there
	@$(INSTALL) uninstall $(PROGRAMS)
deb: $(PROGRAMS:%=$(BUILD)/%) | $(BUILD)/.deps-deb ## a Debian package, in build/
	@BUILD='$(BUILD)' tools/deploy/make-deb.sh $(PROGRAMS)

sim: $(BUILD)/pulsesim ## run the server in SEEDS simulated worlds (SEEDS=1..10000)
	@$(BUILD)/pulsesim --seeds $(SEEDS) $(ARGS)

bench-build: $(BENCHES:%=$(BUILD)/release/%)
bench: bench-build ## measure: side by side with the baselines; tables printed, JSON in build/bench/
	@BUILD=$(BUILD) python3 bench/run.py $(ARGS) $(BENCHES:%=$(BUILD)/release/%)
versus: $(LOAD_PAIR) ## beside other people's servers: half an hour (ARGS=--quick: 3 minutes)
	@BUILD=$(BUILD) CXX='$(CXX)' python3 bench/versus.py $(ARGS)

# Sums in any order, so that rows of weights are vectors.
CXXFLAGS_bench/anomaly := -fno-math-errno -fno-signed-zeros -fno-trapping-math -fassociative-math
STUDY := $(BUILD)/release/bench/anomaly/study
$(STUDY): $(STUDY_SOURCES:%.cc=$(BUILD)/release/%.o) $(BUILD)/release/libpulse.a
	@echo "  link  release  $@"
	@$(CXX) $(LDFLAGS_release) $^ -o $@
anomaly-study: $(STUDY) ## who finds faults in 1,008 simulated days (ARGS=--train: the LSTM anew)
	@nice -n 19 $(STUDY) $(ARGS)

BEATS := $(BUILD)/release/bench/heartbeat/study
$(BEATS): $(BEATS_SOURCES:%.cc=$(BUILD)/release/%.o) $(BUILD)/release/libpulse.a
	@echo "  link  release  $@"
	@$(CXX) $(LDFLAGS_release) $^ -lfmt -o $@
heartbeat-study: $(BEATS) ## what ways of beating cost in simulated networks
	@nice -n 19 $(BEATS) $(ARGS)
$(foreach flavour,release asan,$(eval \
    $(BUILD)/$(flavour)/tests/bench/heartbeat_study_test: \
        $(BEATS_PARTS:%.cc=$(BUILD)/$(flavour)/%.o)))

CONVERSATIONS_TEST := $(BUILD)/asan/tests/net/loop/random_conversations_test
conversations: $(CONVERSATIONS_TEST) ## random ones over real sockets, under ASan
	+@PULSE_CONVERSATIONS=$(CONVERSATIONS) $(CONVERSATIONS_TEST)

ATTACKS_TEST := $(BUILD)/asan/tests/net/loop/tls_attacks_test
tls-attacks: $(ATTACKS_TEST) ## random peers behind TLS, every allocation failing, under ASan
	+@PULSE_TLS_SEEDS=$(TLS_SEEDS) $(ATTACKS_TEST)

# What speaks wss in `make test` on each backend, and on each as OpenSSL keeps it or frozen, does so
# here in every pair of the two; and what takes longer.
TLS_PEERS := $(addprefix tests/system/,tls_campaign.py tls_test.py websocket_test.py) \
             $(addprefix tests/clients/,chromium_test.py gorilla_test.py node_ws_test.py \
               python_websockets_test.py)
tls-peers: $(BUILD)/.deps-clients $(LOAD_PAIR) ## real clients over TLS, in every way
	@PULSE_TLS_WAYS=all BUILD=$(BUILD) $(RUN_TESTS) tls $(TLS_PEERS)

fuzz: $(FUZZERS:%=$(BUILD)/fuzz/%) ## run every fuzz target FUZZ_RUNS times on its kept corpus
	@BUILD=$(BUILD) python3 tests/fuzz/run.py $(FUZZ_RUNS) $(FUZZERS:%=$(BUILD)/fuzz/%)

# ---------------------------------------------------------------------------------------- hygiene
CPP_FILES = $(shell git ls-files '*.h' '*.cc')
# Of what the servers in bench/peers/ include, a machine may have nothing.
TIDY_FILES = $(filter-out bench/peers/%,$(filter %.cc,$(CPP_FILES)))
tidy: deps-tidy compile_commands.json ## clang-tidy over everything
	@printf '%s\n' $(TIDY_FILES) | xargs -P $$(nproc) -n 1 clang-tidy-19 --quiet -p . \
	    --extra-arg=-Wno-unknown-warning-option
format: deps-tidy ## apply .clang-format
	@clang-format-19 -i $(CPP_FILES)
format-check: deps-tidy ## fail if a file is not formatted
	@clang-format-19 --dry-run -Werror $(CPP_FILES)
clean: ## remove everything that was built
	rm -rf $(BUILD) compile_commands.json
