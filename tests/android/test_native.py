"""The very files of the APK, run without a phone: arm64 under qemu as four processors, x86_64 natively.

Tokens through JNI must equal the desktop runner's, in every mode; damaged files must give a sentence; the weights must
stay where they are mapped. The oracle is the desktop build over another ExecuTorch release (1.5, here 1.3), another C
library and other kernels.
"""

import random
import re
import shutil
import struct
import subprocess

import apkzip
import elf
import native
import pytest
from shipped import CHECKPOINT
from tokenizers import Tokenizer

from runtime_delegates.runner import Runner
from runtime_delegates.session import Session

ARM = {"cortex-a53": "neon", "cortex-a72": "neon", "cortex-a76": "dotprod", "max,sve=off": "i8mm"}
TEXT = "THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS"
CODE = "for i in range(10):\n    print(i)\nfor i in range(10):"
PROMPTS = [[1] + [500, 600, 700, 800, 900] * 8, [1] + [7, 9, 11, 13] * 10,
           [1, *Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json")).encode(CODE).ids]]
CLEAR = 0.2  # logits between a token and the next best: other kernels round sums otherwise, and with that activations to int8
MODES = {"plain": dict(mode="plain"), "chain": dict(drafter="ngram", draft_width=1), "tree": dict(drafter="ngram", draft_width=3),
         "head-chain": dict(drafter="head", draft_width=1), "head-tree": dict(drafter="head", draft_width=3)}
MAX_TOKENS = 24


@pytest.fixture(scope="session")
def golden(shipped_program, shipped_head):
    """Per prompt and mode: tokens, cycles and drafted tokens of the desktop runner."""
    with Runner(shipped_program) as runner:
        runner.load_tokenizer(CHECKPOINT / "tokenizer.json")
        runner.load_draft(shipped_head)
        tokens = {}
        for i, prompt in enumerate(PROMPTS):
            for mode, options in MODES.items():
                runner.reset()
                result = runner.generate(prompt, max_tokens=MAX_TOKENS, **{"mode": "spec", "draft_tokens": 7, **options})
                tokens[i, mode] = (result.ids, result.cycles, result.drafted_tokens)
            assert all(tokens[i, mode][0] == tokens[i, "plain"][0] for mode in MODES)
            assert all(tokens[i, mode][2] > 10 for mode in MODES if mode.startswith("head"))
            assert margin(shipped_program, prompt, tokens[i, "plain"][0]) > CLEAR, "choose another prompt"
        runner.reset()
        ids = runner.generate(runner.encode(TEXT), max_tokens=MAX_TOKENS, mode="plain").ids
        assert margin(shipped_program, runner.encode(TEXT), ids) > CLEAR, "choose another text"
        runner.reset()
        return {"tokens": tokens, "text": runner.generate_text(TEXT, max_tokens=MAX_TOKENS, mode="plain").text}


def margin(program, prompt, answer):
    """By how many logits the closest of the answer's decisions was taken."""
    session, ids = Session(program), [*prompt, *answer[:-1]]
    logits, _ = session.step(ids)
    best = logits[len(prompt) - 1 :].topk(2).values
    return (best[:, 0] - best[:, 1]).min().item()


def modes():
    return [word for mode in MODES for word in ("--mode", mode)]


def check_tokens(lines, golden, prompt):
    for line, mode in zip(lines[:-1], MODES, strict=True):
        assert line["mode"] == mode
        assert (line["tokens"], line["cycles"], line["drafted"]) == golden["tokens"][prompt, mode], mode


def arguments(prompt):
    return ["--tokens", ",".join(map(str, PROMPTS[prompt])), *modes(), "--max-tokens", MAX_TOKENS]


@pytest.mark.parametrize("cpu", ARM)
def test_arm64_gives_the_desktop_runners_tokens(cpu, emulators, shipped_program, shipped_head, golden):
    for prompt in range(len(PROMPTS)) if cpu == "cortex-a76" else [1]:
        lines = emulators["arm64-v8a"].host("--path", shipped_program, "--draft", shipped_head, *arguments(prompt), cpu=cpu)
        check_tokens(lines, golden, prompt)
        assert lines[-1]["kernels"] == ARM[cpu]


@pytest.mark.parametrize("prompt", range(len(PROMPTS)))
def test_x86_64_gives_the_desktop_runners_tokens(prompt, emulators, shipped_program, shipped_head, golden):
    check_tokens(emulators["x86_64"].host("--path", shipped_program, "--draft", shipped_head, *arguments(prompt)), golden, prompt)


@pytest.mark.parametrize("abi", native.ABIS)
def test_text_and_tokenizer(abi, emulators, shipped_program, shipped_head, golden):
    lines = emulators[abi].host("--path", shipped_program, "--draft", shipped_head, "--tokenizer", CHECKPOINT / "tokenizer.json", "--text", TEXT, *modes(),
                                "--max-tokens", MAX_TOKENS)
    assert [line["text"] for line in lines[:-1]] == [golden["text"]] * len(MODES)


@pytest.mark.parametrize("abi", native.ABIS)
def test_maps_the_model_inside_the_apk_without_a_copy(abi, emulators, apk, shipped_program, shipped_head, golden):
    (name,) = [name for name in apkzip.read(apk["apk"]) if name.endswith(shipped_program.name)]
    entry = apkzip.read(apk["apk"])[name]
    assert entry.stored and entry.offset % 16384 == 0
    lines = emulators[abi].host("--range", apk["apk"], entry.offset, entry.size, "--draft", shipped_head, *arguments(0))
    check_tokens(lines, golden, 0)
    # Caches and scratch are a few MB; a copy of the weights would be all of the file.
    assert lines[-1]["anonymous_kb"] * 1024 < entry.size / 2
    if abi == "x86_64":  # what qemu says of itself is little; here the figure shows that it is one
        assert lines[-1]["anonymous_kb"] > 500


@pytest.mark.parametrize("abi", native.ABIS)
def test_cancel_takes_effect_within_a_step(abi, emulators, shipped_program):
    line, _ = emulators[abi].host("--path", shipped_program, "--tokens", "1,100,200", "--mode", "chain", "--max-tokens", 200, "--cancel-after", 3)
    assert line["stopped_by"] == 4 and 3 <= line["generated"] <= 3 + 7


def damaged(data: bytes):
    """Name, bytes, and what the sentence must say."""
    yield "empty", b"", ""
    yield "text", b"no program " * 100, "not an ExecuTorch program"
    yield "cut", data[: len(data) // 2], "truncated"
    yield "cut in the header", data[:40], ""
    yield "other backend", data.replace(b"BlockFFNBackend", b"BlockFFNBackenX"), ""


def test_damaged_files_give_a_sentence(emulators, shipped_program, tmp_path):
    for name, content, sentence in damaged(shipped_program.read_bytes()):
        path = tmp_path / "damaged.pte"
        path.write_bytes(content)
        for abi in native.ABIS:
            last = emulators[abi].host("--path", path, "--tokens", "1,2", "--mode", "plain", "--max-tokens", 2)[0]
            assert last["code"] == 2 and sentence in last["error"] and len(last["error"]) > 20, (abi, name, last)
    for path in (tmp_path, tmp_path / "none.pte"):
        assert emulators["x86_64"].host("--path", path)[0]["code"] == 2


@pytest.mark.parametrize("abi", native.ABIS)
def test_flipped_bits_never_end_the_process(abi, emulators, shipped_program, tmp_path):
    """In the header and the flatbuffer, which ExecuTorch trusts, every flip is refused; weights may change."""
    data = shipped_program.read_bytes()
    (flatbuffer_bytes,) = struct.unpack_from("<Q", data, 16)
    assert data[8:12] == b"eh00" and 1000 < flatbuffer_bytes < len(data) / 10
    draw = random.Random(5)
    trusted = [draw.randrange(flatbuffer_bytes) for _ in range(40)]
    anywhere = [draw.randrange(flatbuffer_bytes, len(data)) for _ in range(8)] + [len(data) - 1 - 8 * i for i in range(8)]
    (tmp_path / "flipped.pte").write_bytes(data)
    lines = emulators[abi].host("--flip", tmp_path / "flipped.pte", ",".join(map(str, trusted + anywhere)))
    assert len(lines) == len(trusted) + len(anywhere)
    for position, line in zip(trusted, lines):
        assert line["code"] == 2 and len(line["error"]) > 20, (position, line)
    assert {line["code"] for line in lines[len(trusted):]} <= {0, 2, 4} and 0 in {line["code"] for line in lines}
    assert (tmp_path / "flipped.pte").read_bytes() == data


@pytest.mark.parametrize("abi", native.ABIS)
def test_what_is_no_draft_model_is_refused(abi, emulators, shipped_program, shipped_head, tmp_path):
    (tmp_path / "cut.pte").write_bytes(shipped_head.read_bytes()[:-4096])
    for head, sentence in ((CHECKPOINT / "tokenizer.json", "not an ExecuTorch program"), (tmp_path / "cut.pte", "truncated")):
        line = emulators[abi].host("--path", shipped_program, "--draft", head, "--tokens", "1,2", "--mode", "plain")[0]
        assert line["code"] == 2 and sentence in line["error"], line


def test_a_range_that_is_no_program(emulators, apk, shipped_program):
    (entry,) = [e for name, e in apkzip.read(apk["apk"]).items() if name.endswith(shipped_program.name)]
    for offset, size in [(entry.offset + 4, entry.size - 4), (entry.offset, apk["bytes"]), (0, 4096), (-1, 10)]:
        assert emulators["x86_64"].host("--range", apk["apk"], offset, size)[0]["code"] in (1, 2), (offset, size)


def test_these_checks_notice_faults(emulators, shipped_program, shipped_head, golden, tmp_path):
    """Wrong weights give other tokens; without the shim or ExecuTorch the library does not load."""
    data = bytearray(shipped_program.read_bytes())
    for at in range(len(data) * 3 // 20, len(data) // 5, 3):  # within one layer's experts
        data[at] ^= 0x45  # bits that leave a scale finite
    (tmp_path / "wrong.pte").write_bytes(data)
    lines = emulators["x86_64"].host("--path", tmp_path / "wrong.pte", "--draft", shipped_head, *arguments(2))
    assert all("tokens" in line for line in lines[:-1])
    with pytest.raises(AssertionError, match="plain"):
        check_tokens(lines, golden, 2)
    emulator = emulators["x86_64"]
    command = emulator.command(emulator.folder / "host")
    without_shim = [word for word in command if word != "--preload" and not word.endswith("libbionicshim.so")]
    done = subprocess.run(without_shim, capture_output=True, text=True)
    assert done.returncode != 0 and "__errno: symbol not found" in done.stderr
    shutil.copytree(emulator.libraries, tmp_path / "libs")
    (tmp_path / "libs" / "libexecutorch_jni.so").unlink()
    done = subprocess.run(emulator.command(emulator.folder / "host", libraries=tmp_path / "libs"), capture_output=True, text=True)
    assert done.returncode != 0 and "libexecutorch_jni.so" in done.stderr


LOADER = """
typedef void (*function)(void);
static int create(const void* info, const void* allocator, void** instance) {
  /* VkApplicationInfo::apiVersion must be 1.1, which is what the refusal is about. */
  const char* application = *(const char* const*)((const char*)info + 24);
  return *(const unsigned*)(application + 44) == (1u << 22 | 1u << 12) ? -9 : 0; /* VK_ERROR_INCOMPATIBLE_DRIVER */
}
function vkGetInstanceProcAddr(void* instance, const char* name) {
  return instance == 0 && name[2] == 'C' && name[8] == 'I' ? (function)create : 0;
}
"""


@pytest.mark.parametrize("abi", native.ABIS)
def test_the_gpu_where_there_is_none(abi, emulators, shipped_program, golden, tmp_path):
    """The libraries hold the Vulkan device and open libvulkan.so, Android's name for it; without it, or without a driver of Vulkan
    1.1, the CPU gives its tokens. What a GPU computes is tested on the desktop's build of the same sources (test_app.py, tests/gpu)."""
    emulator = emulators[abi]
    said = "cpu: there is no Vulkan loader (libvulkan.so.1) on this system"
    for asked, device in (("cpu", "cpu"), ("gpu", said), ("auto", said)):
        lines = emulator.host("--path", shipped_program, "--device", asked, "--cache", tmp_path / "cache", "--tokens", ",".join(map(str, PROMPTS[0])),
                              "--mode", "plain", "--max-tokens", MAX_TOKENS)
        assert lines[-1]["device"] == device
        assert lines[0]["tokens"] == golden["tokens"][0, "plain"][0]
    (tmp_path / "loader.c").write_text(LOADER)
    shutil.copytree(emulator.libraries, tmp_path / "libs")
    arch = {"arm64-v8a": "aarch64", "x86_64": "x86_64"}[abi]
    native.run([native.zig(), "cc", "-target", f"{arch}-linux-musl", "-shared", "-fPIC", "-O1", "-o", tmp_path / "libs/libvulkan.so", tmp_path / "loader.c"],
               "building the loader")
    lines = emulator.host("--path", shipped_program, "--device", "gpu", libraries=tmp_path / "libs")
    assert lines[-1]["device"] == "cpu: there is no Vulkan driver on this system"


# ---- the files themselves ----
SYSTEM = {"libc.so", "libm.so", "libdl.so", "liblog.so"}


@pytest.mark.parametrize("abi", native.ABIS)
def test_libraries_are_what_android_loads(abi, android):
    libraries = {path.name: elf.read(path) for path in [*(android / "jniLibs" / abi).glob("*.so"), *(android / "bin" / abi).iterdir()]}
    assert set(libraries) == {"libblockffn_jni.so", "libexecutorch_jni.so", "libfbjni.so", "libblockffn_onnxruntime.so", "blockffn-run"}
    known = libraries["libexecutorch_jni.so"]
    listed = native.bionic_symbols()
    for name, library in libraries.items():
        assert library.soname == ("" if name == "blockffn-run" else name) and library.machine == {"arm64-v8a": 183, "x86_64": 62}[abi]
        assert set(library.load_alignments) == {16384}, name
        assert library.relro and not (library.has_tls and name != "blockffn-run" or library.executable_stack or library.writable_code or library.text_relocations), name
        # What it imports of the system, an NDK-built library imports too, or our list with API levels has it.
        for symbol, of in library.imports.items():
            if of in SYSTEM:
                assert known.imports.get(symbol) == of or symbol in listed.get(of, ()), f"{name} imports {symbol} of {of}"
            else:
                assert symbol in library.weak_imports or symbol in listed["liblog.so"] or any(symbol in libraries[n].exports for n in library.needed if n in libraries), \
                    f"{name} imports {symbol} of nobody"
    ours = libraries["libblockffn_jni.so"]
    assert ours.exports == {"JNI_OnLoad"}
    assert set(ours.needed) <= {"libexecutorch_jni.so"} | SYSTEM
    onnx = libraries["libblockffn_onnxruntime.so"]
    assert onnx.exports == {"RegisterCustomOps", "blockffn_ort_last_call", "blockffn_ort_all_experts"} and set(onnx.needed) <= SYSTEM


@pytest.mark.parametrize("abi", native.ABIS)
def test_the_program_for_adb_shell(abi, emulators, android, shipped_program, golden):
    emulator = emulators[abi]
    done = subprocess.run(emulator.command(android / "bin" / abi / "blockffn-run", shipped_program, "--tokenizer", CHECKPOINT / "tokenizer.json",
                                           "-p", TEXT, "-n", str(MAX_TOKENS)), capture_output=True, text=True, env={"SHIM_NPROC": "2"}, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert golden["text"] in done.stdout


def test_the_libraries_are_small_enough(android):
    assert sum(path.stat().st_size for path in (android / "jniLibs").rglob("*.so")) < 60_000_000


# System calls that Android's app filter lets through on both processors (bionic's SYSCALLS.TXT and SECCOMP_ALLOWLIST_*.TXT
# less SECCOMP_BLOCKLIST_APP.TXT), as far as the libraries need them or musl uses them in their place.
ALLOWED = set("""brk clock_gettime clone close execve exit exit_group fcntl fstat futex getpid getrandom gettid lseek madvise mmap mprotect
    mremap munmap newfstatat openat pread64 prctl read readlinkat readv rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity
    sched_setaffinity sched_yield set_tid_address sysinfo tgkill uname write writev getdents64 faccessat membarrier
    prlimit64 getcwd getrusage ioctl""".split())
ALLOWED_X86_64 = {"open", "stat", "readlink", "arch_prctl"}


@pytest.mark.parametrize("abi", native.ABIS)
def test_system_calls_pass_androids_app_filter(abi, emulators, shipped_program, shipped_head, tmp_path):
    emulator = emulators[abi]
    command = emulator.command(emulator.folder / "host", "--path", shipped_program, "--draft", shipped_head, "--tokens", "1,100,200", *modes(), "--max-tokens", 8)
    if abi == "x86_64":
        subprocess.run(["strace", "-f", "-o", tmp_path / "calls", *command], check=True, capture_output=True, env={"PATH": "/usr/bin:/bin"})
        calls = set(re.findall(r"^\d+\s+(\w+)\(", (tmp_path / "calls").read_text(), re.M))
    else:
        done = subprocess.run([command[0], "-strace", *command[1:]], check=True, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
        calls = set(re.findall(r"^\d+ (\w+)\(", done.stderr, re.M))
    assert {"openat", "mmap", "futex", "write"} & calls and len(calls) > 10, "the trace is empty"
    allowed = ALLOWED | (ALLOWED_X86_64 if abi == "x86_64" else set())
    assert calls <= allowed, f"the app filter would kill the process at {sorted(calls - allowed)}"


@pytest.mark.parametrize("abi", native.ABIS)
def test_all_experts_give_the_same_tokens(abi, emulators, shipped_program, golden):
    line = emulators[abi].host("--path", shipped_program, "--all-experts", "--tokens", ",".join(map(str, PROMPTS[0])), "--mode", "plain",
                               "--max-tokens", MAX_TOKENS)[0]
    assert line["tokens"] == golden["tokens"][0, "plain"][0]
