"""Whatever is inside the APK has its licence in NOTICES.txt, which the app shows.

Traces of components are gathered from every file of the APK, and each must belong to a component that NOTICES.txt names:

    symbol   what a native library exports: a C function, or the outermost name of a C++ one
    type     the outermost name of a C++ type whose name stands in the library, exported or not
    source   path of a source file that a library mentions, as assertions do
    header   what was compiled into our own library, from the compiler's dependencies
    package  of a class in classes.dex
    file     entry of the zip

A component that is inlined whole and leaves no trace is not found by this; such ones are listed in UNSEEN by hand.
"""

import re
import zipfile
from pathlib import Path

import elf
import native
import pytest

from tests.conftest import ROOT

NOTICES = ROOT / "android_demo" / "NOTICES.txt"

# The beginning of a component's line in NOTICES.txt, and the traces that are its own. The first that fits takes a trace.
COMPONENTS = {
    "BlockFFN Edge": r"(symbol|type) blockffn|header ROOT/(android_demo|runtime_delegates)/.*|source /runtime_delegates/.*|package org/blockffn(/demo)?|symbol JNI_OnLoad"
                     r"|file (assets/(models\.json|NOTICES\.txt|models/blockffn-22m-docs/[\w.-]+)|AndroidManifest\.xml|resources\.arsc|res/.*|classes\.dex"
                     r"|lib/[\w-]+/libblockffn_jni\.so)",
    "OpenJDK's jni.h": r"header JAVA/include/(linux/)?jni(_md)?\.h",
    "musl's C headers": r"header ZIG/libc/include/.*",
    "libc++, libc++abi, libunwind, compiler-rt": r"(symbol|type) (std|__cxxabiv1|__ndk1|\(builtin\)|align_val_t|nothrow_t)"
                                                 r"|symbol (__cxa_\w+|__dynamic_cast|__gxx_personality_v0|__emutls_get_address)"
                                                 r"|header ZIG/(libcxx(abi)?/include|include)/.*|source (\S*/)?llvm-project/.*",
    "Darts-clone": r"(symbol|type) Darts|source \S*/darts_clone/.*",
    "Protocol Buffers": r"(symbol|type) google|symbol scc_info_\w+|source \S*/protobuf-lite/.*",
    "Abseil": r"(symbol|type) absl|symbol AbslInternal\w+|source (\S*/)?abseil-cpp/.*",
    "RE2": r"(symbol|type) re2|source (\S*/)?re2/.*",
    "PCRE2": r"symbol _?pcre2_\w+|source \S*/pcre2/.*",
    "SentencePiece": r"(symbol|type) sentencepiece|symbol FLAGS_(help|version|minloglevel)|source \S*/sentencepiece/src/.*",
    "JSON for Modern C++": r"(symbol|type) nlohmann|source (\S*/)?nlohmann/.*",
    "llama.cpp's unicode tables": r"symbol unicode_\w+",
    "base64": r"(symbol|type) base64|source \S*/base64\.h",
    "pytorch tokenizers": r"(symbol|type) tokenizers|symbol tk_pal_\w+|source (\S*/)?extension/llm/tokenizers/(src|include)/.*",
    "fbjni": r"(symbol|type) facebook|file lib/[\w-]+/libfbjni\.so",
    "jni.h of the Android Open Source Project": r"symbol _JNIEnv",
    "Fast Hadamard Transform": r"symbol hadamard_mult_\d+(_strided)?",
    "FFHT": r"symbol (fht_(float|double)|helper_(float|double)_\d+(_recursive)?)",
    "XNNPACK": r"symbol (xnn_\w+|xnnpack|murmur_hash3|\w*(fully_connected|convolution|deconvolution|depth_to_space|convert_nc|pack_lh)\w*"
               r"|pack_qs8_\w+|transpose_weights(_x8)?|create_(average_pooling2d|batch_matrix_multiply)_\w+|resize_(bin|un)ary_elementwise_output_tensor"
               r"|reshape_for_lut|run_(constant_pad|transpose)_nd|propagate_rank|define_copy_node|get_tensor_size|check_(in|out)put_value"
               r"|\w*fingerprint\w*)",
    "KleidiAI": r"symbol kai_\w+",
    "cpuinfo": r"symbol cpuinfo_\w+",
    "pthreadpool": r"symbol pthreadpool_\w+",
    "torchao": r"(symbol|type) torchao",
    "PyTorch": r"(symbol|type) (c10|at)|header EXECUTORCH/include/(c10|torch)/.*",
    "Eigen": r"symbol (Eigen|general_matrix_vector_product_wrapper)|symbol xerbla_",
    "Reference BLAS": r"symbol ([sdcz]{1,2}[a-z]{3,5}2?k?|i[sdcz]ama?[xi]n?)_",
    "PocketFFT": r"(symbol|type) pocketfft",
    "FlatBuffers": r"(symbol|type) flatbuffers",
    "Vulkan Memory Allocator": r"(symbol|type) Vma\w+|symbol vma[A-Z]\w+",
    "volk": r"symbol volk[A-Z]\w+",
    "Vulkan-Headers": r"header VULKAN/(vulkan|vk_video)/.*",
    "ExecuTorch": r"(symbol|type) (torch|executorch|executorch_jni|vkcompute|vkgraph|fb_xnnpack)|symbol (et_pal_\w+|register_natives_for_\w+|Java_org_pytorch_executorch_\w+)"
                  r"|header EXECUTORCH/include/executorch/.*|file lib/[\w-]+/libexecutorch_jni\.so"
                  r"|source (\S*/executorch/)?(backends/(xnnpack|vulkan)|cmake-out\S*|extension|kernels|runtime|schema)/(?!.*third-party).*",
    "Kotlin standard library": r"package kotlin(/.*)?",
}
# Inlined whole, tables without a name, or the package that another one came in.
UNSEEN = {"react-native-executorch", "FXdiv, FP16, psimd", "Unicode Character Database"}
BUILD_TIME = "(at build time only)"  # not inside: named, but its licence need not be spelled out


def outermost(symbol: str) -> str:
    """`absl` of _ZN4absl…; the name itself of a C symbol; "(builtin)" for what is about fundamental types alone."""
    if symbol.startswith("__emutls_"):
        symbol = symbol[11:] if symbol[8:11] in ("_v.", "_t.") else symbol
    if not symbol.startswith("_Z"):
        return symbol
    # Tables, guards, thunks and constructions of something, then pointers, qualifiers, and where the name nests.
    rest = re.sub(r"^_Z(T[VISTCWH]|GV|GR|T[hv](n?\d+_){1,2})?[PKRONZFV]*", "", symbol)
    if re.match(r"S[tabsiod]", rest):
        return "std"
    number = re.search(r"\d+", rest)
    return rest[number.end():number.end() + int(number[0])] if number else "(builtin)"


def library_traces(path) -> set[str]:
    traces = {f"symbol {outermost(symbol)}" for symbol in elf.read(path).exports}
    for text in re.findall(rb"(?<![\x20-\x7e])[\x20-\x7e]{4,2000}(?=\0)", path.read_bytes()):
        text = text.decode()
        if (nested := re.fullmatch(r"N(\d+)([A-Za-z_]\w*).*E", text)) and 2 <= int(nested[1]) <= len(nested[2]) and not text.startswith("N12_GLOBAL__N_1"):
            traces.add("type " + nested[2][:int(nested[1])])
        elif source := re.match(r"(\S*?[\w-]+/[\w./+-]*\w\.(c|cc|cpp|cxx|h|hpp|inl|S))(:\d+.*)?$", text):
            # Where the machine that built ExecuTorch had it says nothing.
            traces.add("source " + re.sub(r"^/.*?/labs_executorch/executorch/(\.\./executorch/)?", "", source[1]))
    return traces


def header_traces(android, abi: str) -> set[str]:
    work = android / "work" / abi / "cmake"
    inputs = native.run([native.ninja(), "-C", work, "--quiet", "-t", "inputs", "libblockffn_jni.so"], "ninja").split()
    objects = [name for name in inputs if name.endswith(".o")]
    assert len(objects) > 20
    headers = {line.strip() for line in native.run([native.ninja(), "-C", work, "--quiet", "-t", "deps", *objects], "ninja").splitlines() if line.startswith(" ")}
    assert len(headers) > 200
    names = {native.zig().parent / "lib": "ZIG", native.vulkan_headers(): "VULKAN", native.java_home(): "JAVA", android / "work" / abi / "executorch": "EXECUTORCH", ROOT: "ROOT"}
    traces = set()
    for header in headers:
        for folder, name in names.items():
            if header.startswith(f"{folder}/"):
                header = name + header[len(str(folder)):]
        traces.add("header " + header)
    return traces


def dex_traces(dex) -> set[str]:
    classes = re.findall(r"Class descriptor\s*: 'L([^;]*);'", native.run(["dexdump", dex], "dexdump"))
    return {"package " + name.rpartition("/")[0] for name in classes}


def notices(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Component -> its licence, with a copyright line required; licence -> its text."""
    head, *rest = re.split(r"^={100}\n(.+)\n={100}\n", text, flags=re.M)
    components = {name: licence for name, licence, owners in re.findall(r"^(\S.*): (\S.*)\n((?:    .*\n)+)", head, re.M) if "Copyright" in owners}
    return components, dict(zip(rest[::2], rest[1::2], strict=True))


def complaints(traces: set[str], text: str) -> list[str]:
    """What is inside and has no notice, and notices without a licence's text or without anything inside."""
    components, texts = notices(text)
    patterns = {name: re.compile(pattern) for name, pattern in COMPONENTS.items()}
    found, said = set(), set()
    for trace in sorted(traces):
        owner = next((name for name, pattern in patterns.items() if pattern.fullmatch(trace)), None)
        if owner is None:
            said.add(f"{trace}: of no known component")
        else:
            found.add(owner)
    for owner in sorted(found | UNSEEN):
        if sum(name.startswith(owner) for name in components) != 1:
            said.add(f"{owner}: is inside, and NOTICES.txt does not name it with licence and copyright")
    for name, licence in components.items():
        if not any(name.startswith(known) for known in found | UNSEEN):
            said.add(f"{name}: is named, and is not inside")
        for part in licence.split(" WITH ") if BUILD_TIME not in name else ():
            if len(texts.get(part, "")) < 300:
                said.add(f"{name}: the text of {part} is missing")
    return sorted(said)


@pytest.fixture(scope="module")
def traces(apk, android, tmp_path_factory):
    folder = tmp_path_factory.mktemp("apk")
    with zipfile.ZipFile(apk["apk"]) as archive:
        archive.extractall(folder)
        found = {"file " + name for name in archive.namelist()}
    for library in folder.glob("lib/*/*.so"):
        found |= {trace for trace in library_traces(library) if library.name != "libfbjni.so"}  # a stub: names, and no code
    for abi in native.ABIS:
        found |= header_traces(android, abi)
    return found | dex_traces(folder / "classes.dex")


def test_everything_inside_has_its_notice(traces):
    assert complaints(traces, NOTICES.read_text()) == []


def test_the_app_shows_the_repositorys_notices(apk):
    with zipfile.ZipFile(apk["apk"]) as archive:
        assert archive.read("assets/NOTICES.txt") == NOTICES.read_bytes()


def words(text: str) -> str:
    return " ".join(re.findall(r"[a-z]+", text.lower()))


def test_the_licences_are_complete():
    """Word for word as in the packages that the build downloads or Debian installs."""
    zig = native.zig().parent
    llvm = words((zig / "lib/libcxx/LICENSE.TXT").read_text())
    _, texts = notices(NOTICES.read_text())
    assert words(texts["LLVM-exception"]) in llvm and "gplv" in words(texts["LLVM-exception"])
    assert words(texts["Apache-2.0"].partition("END OF TERMS")[0]) in llvm
    mit = words((zig / "LICENSE").read_text())
    assert words(texts["MIT"]) in mit and words(texts["MIT"]).startswith("permission is hereby granted") and "or other dealings in the software" in words(texts["MIT"])
    (executorch,) = native.executorch_wheel().parent.glob("executorch-*.dist-info/licenses/LICENSE")
    bsd = words(executorch.read_text())
    for name in ("BSD-3-Clause", "BSD-2-Clause"):
        conditions, disclaimer = words(texts[name]).split(" this software is provided ")
        assert disclaimer in bsd and disclaimer.endswith("of the possibility of such damage"), name
        for sentence in ("redistributions of source code must retain", "redistributions in binary form must reproduce", "neither the name"):
            assert (sentence in conditions) == (sentence != "neither the name" or name == "BSD-3-Clause"), (name, sentence)
    common = Path("/usr/share/common-licenses/MPL-2.0")
    if common.exists():
        assert words(texts["MPL-2.0"]) == words(common.read_text())


def test_a_planted_component_is_noticed(traces, tmp_path):
    """Code of strangers in a library or among the classes, a file, a licence's text that is gone, and each notice in turn."""
    (tmp_path / "planted.cc").write_text("""
        extern "C" __attribute__((visibility("default"))) int ZSTD_compress() { return 1; }
        namespace curl { struct __attribute__((visibility("hidden"))) Easy { virtual int get(); } easy; int Easy::get() { return 2; } }
        extern "C" __attribute__((visibility("default"))) curl::Easy* get() { return &curl::easy; }
        extern "C" __attribute__((visibility("default"))) const char* where() { return "third-party/zlib/inflate.c"; }""")
    native.run([native.zig(), "c++", "-target", "x86_64-linux-musl", "-shared", "-fPIC", "-nostdlib++", "-O1", "-o", tmp_path / "libplanted.so",
                tmp_path / "planted.cc"], "building the planted library")
    text = NOTICES.read_text()
    planted = library_traces(tmp_path / "libplanted.so")
    assert {"symbol ZSTD_compress", "type curl", "source third-party/zlib/inflate.c"} <= planted
    for trace in ("symbol ZSTD_compress", "type curl", "source third-party/zlib/inflate.c", "package okhttp3/internal", "package org/jetbrains/annotations",
                  "file lib/arm64-v8a/libonnxruntime.so", "header /usr/include/eigen3/Eigen/Core", "file assets/font.ttf"):
        assert complaints(traces | {trace}, text) == [f"{trace}: of no known component"], trace
    for name in COMPONENTS.keys() | UNSEEN:
        line = re.search(rf"^{re.escape(name)}.*\n(    .*\n)+", text, re.M)[0]
        assert any(said.startswith(name) and "does not name it" in said for said in complaints(traces, text.replace(line, ""))), name
        assert complaints(traces, text.replace(line, line.splitlines()[0] + "\n")), f"{name} without a copyright line"
    assert any("text of MIT" in said for said in complaints(traces, text.replace("\nMIT\n", "\nMTI\n")))
    assert any("Zlib: is named, and is not inside" in said for said in complaints(traces, text.replace("volk: MIT", "Zlib: MIT\n    Copyright Z\nvolk: MIT")))
