# make [BUILD=release|debug|asan|ubsan|tsan|cov]   all | check | lib | install | lint | clean
#   make                 the program, at ./drover
#   make check           every test that needs neither network, GPU nor a peer
#   make install PREFIX=/usr/local DESTDIR=
# docs/building.md says what each target and variable does.
BUILD ?= release
-include config.mk                       # your own settings; not in git

ifeq ($(origin CC),default)
CC := gcc
endif
AR        ?= ar
OBJCOPY   ?= objcopy
PREFIX    ?= /usr/local
LIBDIR    ?= $(PREFIX)/lib
MANDIR    ?= $(PREFIX)/share/man
BASHCOMP  ?= $(PREFIX)/share/bash-completion/completions
ZSHCOMP   ?= $(PREFIX)/share/zsh/site-functions
VERSION   := $(shell cat VERSION)
SOVERSION := 0
ARCH      := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))

# V=1 shows whole commands.
Q := $(if $(V),,@)
say = $(if $(V),,@echo '  $1')

# One folder per build and compiler, so that switching back and forth rebuilds nothing.
CCNAME := $(notdir $(firstword $(CC)))
O := build/$(BUILD)$(if $(filter-out gcc cc,$(CCNAME)),-$(CCNAME))$(if $(or $(filter \
     $(ARCH),$(shell uname -m)),$(findstring $(ARCH),$(CCNAME))),,-$(ARCH))$(if $(MPI),-mpi)

CSTD   := -std=c17 -D_POSIX_C_SOURCE=200809L
WARN   := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wundef \
          -Wpointer-arith -Wwrite-strings -Wno-missing-field-initializers \
          $(if $(findstring clang,$(CCNAME)),-Wno-unknown-warning-option,-Wno-format-truncation)
ifdef WERROR
WARN   += -Werror
endif
OPT_release := -O2 -g
OPT_debug   := -O0 -g
OPT_asan    := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPT_ubsan   := -O1 -g -fsanitize=undefined -fno-sanitize-recover=undefined
OPT_tsan    := -O1 -g -fsanitize=thread
OPT_fuzz    := $(OPT_asan) -fsanitize=fuzzer-no-link
OPT_cov     := -O0 -g --coverage
OPT  := $(OPT_$(BUILD))
ifeq ($(OPT),)
$(error BUILD=$(BUILD) is not one of release debug asan ubsan tsan cov fuzz)
endif
DR_CFLAGS := $(CSTD) $(WARN) $(OPT) -fPIC -fvisibility=hidden -fno-math-errno -ffp-contract=off \
          -DDR_VERSION='"$(VERSION)"' -Iinclude -Isrc -Itests/lib $(CPPFLAGS) $(CFLAGS)
# libcurl and libcrypto are loaded when first used: see src/base/dl.h
LIBLIBS := -ljansson -lpcre2-8 -lutf8proc -lz -ldl -lm -lpthread
LDLIBS  := -ljansson -lpcre2-8 -ledit -lutf8proc -lz -ldl -lm -lpthread

# The whole of per-instruction-set building: kern_<level>[_part].c gets that level's flags.
ifeq ($(ARCH),x86_64)
ISA_avx2   := -O3 -mavx2 -mfma -mf16c
ISA_avx512 := -O3 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512bf16 \
              -mavx512vbmi -mgfni -mavx2 -mfma -mf16c -mprefer-vector-width=512
ISA_amx    := $(ISA_avx512) -mamx-tile -mamx-int8 -mamx-bf16
else ifeq ($(ARCH),aarch64)
# gcc's first scheduler moves loads ahead until the tiles' registers run out
ISA_neon   := -O3 -march=armv8.2-a+dotprod+fp16 \
              $(if $(findstring clang,$(CCNAME)),,-fno-schedule-insns)
ISA_i8mm   := $(ISA_neon) -march=armv8.2-a+dotprod+fp16+i8mm
endif
ISA_ref    := -O2 -fno-tree-vectorize
isa = $(if $(filter src/kern/%,$1),$(ISA_$(word 2,$(subst _, ,$(basename $(notdir $1))))))
# Under the sanitizers these files cost minutes at -O3, and more with every check of "undefined";
# the textbook kernels keep both.
ifneq ($(filter asan ubsan tsan,$(BUILD)),)
$(foreach l,avx2 avx512 amx neon i8mm,$(eval ISA_$l := $(filter-out -O3,$(ISA_$l)) -O1 -fno-sanitize=undefined))
endif
# No fuzz target is about kernels, and clang spends many minutes on them with every check.
ifeq ($(BUILD),fuzz)
$(foreach l,avx2 avx512 amx neon i8mm,$(eval ISA_$l := $(filter-out -O3,$(ISA_$l)) -O1 -fno-sanitize=all))
endif
# What src/api/ defines is the library's face; everything else stays inside.
vis = $(if $(filter src/api/%,$1),-fvisibility=default)

# MPI=1: several processes, by Open MPI or MPICH (mpicc says where it is).
ifdef MPI
MPICC     ?= mpicc
MPISHOW   := $(shell $(MPICC) -show)
LIBLIBS   += $(filter -L% -l% -Wl%,$(MPISHOW))
LDLIBS    += $(filter -L% -l% -Wl%,$(MPISHOW))
mpi = $(if $(filter src/dist/comm_mpi.c,$1),$(patsubst -I%,-isystem%,$(filter -I%,$(MPISHOW))))
endif
SRC  := $(filter-out src/dist/comm_$(if $(MPI),nompi,mpi).c,$(sort $(wildcard src/*/*.c)))
OBJ  := $(SRC:%.c=$(O)/%.o) $(O)/src/serve/web_data.o
MAIN := $(O)/src/cli/main.o
CLIO := $(filter-out $(MAIN),$(filter $(O)/src/cli/%,$(OBJ)))
LIBO := $(filter-out $(O)/src/cli/%,$(OBJ))
UNIT := $(patsubst tests/%.c,$(O)/tests/%,$(sort $(wildcard tests/unit/*.c tests/golden/*.c)))
KERN := $(patsubst tests/%.c,$(O)/tests/%,$(sort $(wildcard tests/kern/*.c tests/grad/*.c)))
FUZZ := $(patsubst tests/%.c,$(O)/tests/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
EXAM := $(patsubst %.c,$(O)/%,$(sort $(wildcard examples/*.c)))
E2E  := $(sort $(wildcard tests/e2e/*.sh))
SOLIB := libdrover.so.$(SOVERSION)
# Archives and programs are linked again when the list of their objects changed, too.
LIST := $(O)/objects
$(shell mkdir -p $(O); echo '$(OBJ)' | cmp -s - $(LIST) || echo '$(OBJ)' > $(LIST))

all: drover
drover: $(O)/drover
	@cmp -s $< $@ || cp -f $< $@
$(O)/core.a: $(LIBO) $(LIST)
	@rm -f $@
	$(Q)$(AR) rcs $@ $(LIBO)
$(O)/cli.a: $(CLIO) $(LIST)
	@rm -f $@
	$(Q)$(AR) rcs $@ $(CLIO)
$(O)/drover: $(MAIN) $(O)/cli.a $(O)/core.a
	$(call say,LD  $@)
	$(Q)$(CC) $(OPT) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(UNIT): $(O)/tests/%: $(O)/tests/%.o $(O)/cli.a $(O)/core.a
	$(call say,LD  $@)
	$(Q)$(CC) $(OPT) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka
$(KERN): $(O)/tests/%: $(O)/tests/%.o $(O)/tests/lib/t.o $(O)/cli.a $(O)/core.a
	$(call say,LD  $@)
	$(Q)$(CC) $(OPT) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(LDLIBS)
# the products of the amx level with its tile instructions in C
$(O)/tests/kern/kerncheck_q: $(O)/tests/kern/amx_soft.o
$(O)/tests/kern/amx_soft.o: src/kern/kern_amx_q.c tests/kern/amx_soft.h
	@mkdir -p $(@D)
	$(call say,CC  $@)
	$(Q)$(CC) $(DR_CFLAGS) -MMD -MP $(call isa,src/kern/kern_avx512_q.c) -include tests/kern/amx_soft.h \
	    -c -o $@ $<

$(O)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC  $<)
	$(Q)$(CC) $(DR_CFLAGS) -MMD -MP $(call isa,$<) $(call vis,$<) $(call mpi,$<) -c -o $@ $<

# The web page and the API's description, as C: tools/embed.sh
WEB := $(sort $(wildcard web/*.*)) docs/openapi.yaml
$(O)/src/serve/web_data.c: $(WEB) tools/embed.sh
	@mkdir -p $(@D)
	$(Q)tools/embed.sh $(WEB) > $@.new && mv $@.new $@
$(O)/src/serve/web_data.o: $(O)/src/serve/web_data.c
	$(call say,CC  $<)
	$(Q)$(CC) $(DR_CFLAGS) -MMD -MP -c -o $@ $<

# The library of include/drover.h. In the static one too, only the public names are visible.
lib: $(O)/libdrover.a $(O)/$(SOLIB)
$(O)/libdrover.a: $(LIBO) $(LIST)
	@rm -f $@
	$(call say,AR  $@)
	$(Q)$(CC) -r -nostdlib -o $(O)/libdrover.o $(LIBO)
	$(Q)$(OBJCOPY) --localize-hidden $(O)/libdrover.o
	$(Q)$(AR) rcs $@ $(O)/libdrover.o
$(O)/$(SOLIB): $(LIBO) $(LIST)
	$(call say,LD  $@)
	$(Q)$(CC) $(OPT) $(LDFLAGS) -shared -Wl,-soname,$(SOLIB) -Wl,--as-needed -o $@ $(LIBO) $(LIBLIBS)
	@ln -sf $(SOLIB) $(O)/libdrover.so
$(EXAM): $(O)/examples/%: examples/%.c $(O)/libdrover.a
	@mkdir -p $(@D)
	$(call say,LD  $@)
	$(Q)$(CC) $(CSTD) $(WARN) $(OPT) -Iinclude $(LDFLAGS) -o $@ $< $(O)/libdrover.a $(LIBLIBS)
examples: $(EXAM)

# ---- tests
TESTED := $(UNIT) $(KERN)
check: lint hdrcheck $(O)/drover $(TESTED) $(FUZZ:=.replay) $(EXAM) lib
	@O=$(O) DROVER=$(O)/drover CC='$(CC)' tests/run.sh $(TESTED) $(FUZZ:=.replay) $(E2E)
check-unit: $(TESTED) $(FUZZ:=.replay)
	@O=$(O) tests/run.sh $(TESTED) $(FUZZ:=.replay)
check-e2e: $(O)/drover $(EXAM) lib
	@O=$(O) DROVER=$(O)/drover CC='$(CC)' tests/run.sh $(E2E)
# The web page in a browser; installs what it needs.
check-page: $(O)/drover
	@DROVER=$(O)/drover tests/page/run.sh
# The packages that users call servers with, as clients; installs them into build/clients.
check-clients: $(O)/drover
	@DROVER=$(O)/drover tests/clients/run.sh
	@DROVER=$(O)/drover tests/clients/openapi.sh
# A fuzz target linked to a main that runs it once on each file of its corpus.
$(FUZZ:=.replay): $(O)/tests/fuzz/%.replay: $(O)/tests/fuzz/%.o $(O)/tests/fuzz/replay.o $(O)/core.a
	$(call say,LD  $@)
	$(Q)$(CC) $(OPT) $(LDFLAGS) -o $@ $^ $(LDLIBS)
# The fuzzers themselves: make fuzz CC=clang BUILD=fuzz
fuzz: $(FUZZ)
$(FUZZ): $(O)/tests/fuzz/%: $(O)/tests/fuzz/%.o $(O)/core.a
	$(call say,LD  $@)
	$(Q)$(CC) $(OPT) -fsanitize=fuzzer $(LDFLAGS) -o $@ $^ $(LDLIBS)
# Several processes: builds with MPI, beside the other build, and starts them by mpirun.
RANKS := $(O)/tests/dist/ranks
$(RANKS): $(RANKS).o $(O)/tests/lib/t.o $(O)/core.a
	$(call say,LD  $@)
	$(Q)$(CC) $(OPT) $(LDFLAGS) -o $@ $^ $(LDLIBS)
ifdef MPI
check-mpi: $(RANKS) $(O)/drover
	@DROVER=$(O)/drover tests/dist/run.sh $(RANKS)
else
check-mpi:
	@$(MAKE) --no-print-directory MPI=1 check-mpi
endif
# Each header must compile on its own, so that include order never matters.
HDR := $(filter-out src/kern/vec_% src/kern/lane_% src/kern/%_body.h,$(wildcard include/*.h src/*/*.h))
hdrcheck: $(HDR:%=$(O)/%.ok)
$(O)/%.h.ok: %.h
	@mkdir -p $(@D)
	@$(CC) $(DR_CFLAGS) -MMD -MP -MF $@.d -MT $@ -Wno-unused-function -x c -fsyntax-only $< && touch $@
lint:
	@tools/lint.sh
# The kernel checks alone, which need none of the libraries: also for another architecture than
# this machine's, under an emulator.   make check-kern CC=aarch64-linux-gnu-gcc RUN=qemu-aarch64
KERN_ONLY := $(KERN:%=%-alone)
KERN_LIBO := $(filter-out %/hash.o,$(filter $(O)/src/base/% $(O)/src/kern/% $(O)/src/dev/% \
             $(O)/src/format/quant.o $(O)/src/format/dequant.o,$(OBJ)))
$(KERN_ONLY): $(O)/tests/%-alone: $(O)/tests/%.o $(O)/tests/lib/t.o $(KERN_LIBO)
	$(call say,LD  $@)
	$(Q)$(CC) $(OPT) $(LDFLAGS) -o $@ $^ -ldl -lm -lpthread
check-kern: $(KERN_ONLY)
	@RUN='$(RUN)' QEMU_LD_PREFIX=/usr/$(ARCH)-linux-gnu tests/run.sh $(KERN_ONLY)
bench: $(KERN)
	@set -e; for t in $(KERN); do $$t --bench; done

# ---- what goes where
install: drover lib
	install -d $(addprefix $(DESTDIR),$(PREFIX)/bin $(PREFIX)/include $(LIBDIR)/pkgconfig \
	    $(MANDIR)/man1 $(BASHCOMP) $(ZSHCOMP))
	install -m 755 $(O)/drover $(DESTDIR)$(PREFIX)/bin/drover
	install -m 644 include/drover.h $(DESTDIR)$(PREFIX)/include/
	install -m 644 $(O)/libdrover.a $(O)/$(SOLIB) $(DESTDIR)$(LIBDIR)/
	ln -sf $(SOLIB) $(DESTDIR)$(LIBDIR)/libdrover.so
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' \
	    -e 's|@LIBS@|$(LIBLIBS)|' tools/drover.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/drover.pc
	install -m 644 man/*.1 $(DESTDIR)$(MANDIR)/man1/
	install -m 644 completion/drover.bash $(DESTDIR)$(BASHCOMP)/drover
	install -m 644 completion/_drover $(DESTDIR)$(ZSHCOMP)/
uninstall:
	rm -f $(addprefix $(DESTDIR),$(PREFIX)/bin/drover $(PREFIX)/include/drover.h \
	    $(addprefix $(LIBDIR)/,libdrover.a $(SOLIB) libdrover.so pkgconfig/drover.pc) \
	    $(addprefix $(MANDIR)/man1/,$(notdir $(wildcard man/*.1))) \
	    $(BASHCOMP)/drover $(ZSHCOMP)/_drover)
# Man pages and completions take their tables from the program's own help.
man: drover
	tools/gen_man.sh
completion: drover
	tools/gen_completion.sh
# The stripped program's bytes, and a build from nothing on all cores.
size:
	@tools/size.sh
compdb:
	@tools/compdb.sh $(O) > compile_commands.json && echo "wrote compile_commands.json"
clean:
	rm -rf build drover compile_commands.json
.PHONY: all lib examples check check-unit check-e2e check-kern check-mpi check-page check-clients fuzz hdrcheck lint bench install uninstall \
        man completion size compdb clean
.SECONDARY:
-include $(OBJ:.o=.d) $(UNIT:=.d) $(KERN:=.d) $(HDR:%=$(O)/%.ok.d)
