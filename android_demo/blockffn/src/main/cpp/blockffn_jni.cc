// The runner's C interface for org.blockffn.Native. Text crosses as UTF-8 bytes: JNI's own strings are modified
// UTF-8, which spells an emoji differently. Every failure becomes a BlockFFNException with the runner's sentence.
#include <jni.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "../../../../../runtime_delegates/executorch/blockffn.h"
#include "../../../../../runtime_delegates/runner/blockffn_runner.h"

namespace {

constexpr char kCacheVariable[] = "BLOCKFFN_CACHE_DIR";

jclass exception_class;
jmethodID exception_constructor, on_text, on_token;

void fail(JNIEnv* env, int code, const char* sentence) {
  if (env->ExceptionCheck()) return;  // one that came first, from a callback or the virtual machine
  const auto bytes = static_cast<jsize>(std::strlen(sentence));
  jbyteArray message = env->NewByteArray(bytes);
  if (message == nullptr) return;  // an OutOfMemoryError is pending
  env->SetByteArrayRegion(message, 0, bytes, reinterpret_cast<const jbyte*>(sentence));
  jobject exception = env->NewObject(exception_class, exception_constructor, static_cast<jint>(code), message);
  if (exception != nullptr) env->Throw(static_cast<jthrowable>(exception));
}

blockffn_runner* runner_of(jlong handle) { return reinterpret_cast<blockffn_runner*>(static_cast<intptr_t>(handle)); }

void check(JNIEnv* env, blockffn_runner* runner, int code) {
  if (code == BLOCKFFN_OK) return;
  // A call that found the runner busy leaves no sentence: it would be the other call's.
  fail(env, code, code == BLOCKFFN_BUSY ? "another call runs on this model" : blockffn_runner_last_error(runner));
}

// No C++ exception may cross into the virtual machine; ours come from std::string and std::vector only.
template <class Body>
auto guarded(JNIEnv* env, const Body& body) noexcept -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    fail(env, BLOCKFFN_NO_MEMORY, "not enough memory");
  } catch (...) {
    fail(env, BLOCKFFN_FAILED, "an unexpected C++ exception");
  }
  return decltype(body())();
}

std::string bytes_of(JNIEnv* env, jbyteArray array) {
  std::string bytes(array == nullptr ? 0 : static_cast<size_t>(env->GetArrayLength(array)), '\0');
  if (!bytes.empty())
    env->GetByteArrayRegion(array, 0, static_cast<jsize>(bytes.size()), reinterpret_cast<jbyte*>(bytes.data()));
  return bytes;
}

std::vector<std::string> strings_of(JNIEnv* env, jobjectArray array) {
  std::vector<std::string> strings;
  const jsize n = array == nullptr ? 0 : env->GetArrayLength(array);
  for (jsize i = 0; i < n; ++i) {
    auto element = static_cast<jbyteArray>(env->GetObjectArrayElement(array, i));
    strings.push_back(bytes_of(env, element));
    env->DeleteLocalRef(element);
  }
  return strings;
}

// A file by its path, or by a range of a descriptor where path is null.
struct File {
  File(JNIEnv* env, jbyteArray path, jint fd, jlong offset, jlong bytes) : name(bytes_of(env, path)) {
    file = {path == nullptr ? nullptr : name.c_str(), fd, offset, bytes};
  }
  std::string name;
  blockffn_file file;
};

jbyteArray new_bytes(JNIEnv* env, const char* data, size_t size) {
  jbyteArray array = env->NewByteArray(static_cast<jsize>(size));
  if (array != nullptr) env->SetByteArrayRegion(array, 0, static_cast<jsize>(size), reinterpret_cast<const jbyte*>(data));
  return array;
}

// In the order of Options.kt.
blockffn_runner_options options_of(JNIEnv* env, jintArray ints, jdoubleArray doubles, jlong seed) {
  blockffn_runner_options options;
  blockffn_runner_default_options(&options);
  jint i[7];
  jdouble d[3];
  env->GetIntArrayRegion(ints, 0, 7, i);
  env->GetDoubleArrayRegion(doubles, 0, 3, d);
  if (env->ExceptionCheck()) return options;
  options.max_tokens = i[0];
  options.mode = i[1];
  options.draft_tokens = i[2];
  options.draft_width = i[3];
  options.top_k = i[4];
  options.drafter = i[5];
  options.experts = i[6];
  options.temperature = d[0];
  options.top_p = d[1];
  options.repetition_penalty = d[2];
  options.seed = static_cast<uint64_t>(seed);
  return options;
}

struct Listener {
  JNIEnv* env;
  jobject object;
  blockffn_runner* runner;
};

int text_decided(void* user, const char* utf8, size_t bytes) {
  const auto& to = *static_cast<Listener*>(user);
  jbyteArray text = new_bytes(to.env, utf8, bytes);
  if (text == nullptr) return 1;
  blockffn_runner_stats stats;
  blockffn_runner_get_stats(to.runner, &stats);
  int64_t read = 0, total = 0;
  for (int t = 0; t < 65; ++t) {
    read += stats.experts_read[t];
    total += stats.experts_total[t];
  }
  const jboolean more = to.env->CallBooleanMethod(to.object, on_text, text, static_cast<jlong>(stats.generated_tokens),
                                                  static_cast<jlong>(stats.cycles), static_cast<jlong>(read),
                                                  static_cast<jlong>(total), static_cast<jdouble>(stats.ttft_ms));
  to.env->DeleteLocalRef(text);
  return to.env->ExceptionCheck() || !more;
}

int token_decided(void* user, int32_t token) {
  const auto& to = *static_cast<Listener*>(user);
  const jboolean more = to.env->CallBooleanMethod(to.object, on_token, static_cast<jint>(token));
  return to.env->ExceptionCheck() || !more;
}

// The device holds for this thread's later loads too: a draft head runs where its model does.
jlong load(JNIEnv* env, jclass, jbyteArray path, jint fd, jlong offset, jlong bytes, jbyteArray device) {
  return guarded(env, [&]() -> jlong {
    const File program(env, path, fd, offset, bytes);
    blockffn_set_device(bytes_of(env, device).c_str());
    char error[1024];
    int code = BLOCKFFN_OK;
    blockffn_runner* runner = blockffn_runner_load(&program.file, error, sizeof error, &code);
    if (runner == nullptr) fail(env, code, error);
    return static_cast<jlong>(reinterpret_cast<intptr_t>(runner));
  });
}

void release(JNIEnv*, jclass, jlong handle) { blockffn_runner_free(runner_of(handle)); }

void load_tokenizer(JNIEnv* env, jclass, jlong handle, jbyteArray path, jint fd, jlong offset, jlong bytes,
                    jboolean has_config, jbyteArray config_path, jint config_fd, jlong config_offset, jlong config_bytes) {
  guarded(env, [&] {
    const File tokenizer(env, path, fd, offset, bytes), config(env, config_path, config_fd, config_offset, config_bytes);
    check(env, runner_of(handle),
          blockffn_runner_load_tokenizer(runner_of(handle), &tokenizer.file, has_config ? &config.file : nullptr));
  });
}

void load_draft(JNIEnv* env, jclass, jlong handle, jbyteArray path, jint fd, jlong offset, jlong bytes) {
  guarded(env, [&] {
    const File draft(env, path, fd, offset, bytes);
    check(env, runner_of(handle), blockffn_runner_load_draft(runner_of(handle), &draft.file));
  });
}

jintArray encode(JNIEnv* env, jclass, jlong handle, jbyteArray text, jboolean add_bos) {
  return guarded(env, [&]() -> jintArray {
    const std::string utf8 = bytes_of(env, text);
    std::vector<int32_t> tokens(utf8.size() + 1);  // grows below where a broken byte becomes a longer U+FFFD
    int64_t count = 0;
    for (int attempt = 0; attempt < 2; ++attempt) {
      const int code = blockffn_runner_encode(runner_of(handle), utf8.data(), utf8.size(), add_bos, tokens.data(),
                                              static_cast<int64_t>(tokens.size()), &count);
      check(env, runner_of(handle), code);
      if (code != BLOCKFFN_OK) return nullptr;
      if (count <= static_cast<int64_t>(tokens.size())) break;
      tokens.resize(static_cast<size_t>(count));
    }
    jintArray array = env->NewIntArray(static_cast<jsize>(count));
    if (array != nullptr) env->SetIntArrayRegion(array, 0, static_cast<jsize>(count), tokens.data());
    return array;
  });
}

// roles null: contents[0] is a text to continue; else a conversation.
void generate(JNIEnv* env, jclass, jlong handle, jobjectArray roles, jobjectArray contents, jintArray ints,
              jdoubleArray doubles, jlong seed, jobjectArray stops, jobject listener) {
  guarded(env, [&] {
    const auto options = options_of(env, ints, doubles, seed);
    const auto role = strings_of(env, roles), content = strings_of(env, contents), stop = strings_of(env, stops);
    if (env->ExceptionCheck()) return;
    std::vector<const char*> stop_strings;
    for (const auto& text : stop) stop_strings.push_back(text.c_str());
    Listener to{env, listener, runner_of(handle)};
    const auto stop_count = static_cast<int32_t>(stop.size());
    if (roles == nullptr) {
      if (content.size() != 1) return fail(env, BLOCKFFN_BAD_ARGUMENT, "a text to continue is one string");
      check(env, to.runner,
            blockffn_runner_generate_text(to.runner, content[0].data(), content[0].size(), &options, stop_strings.data(),
                                          stop_count, text_decided, &to));
      return;
    }
    if (role.size() != content.size()) return fail(env, BLOCKFFN_BAD_ARGUMENT, "every message needs a role and a content");
    std::vector<blockffn_message> messages;
    for (size_t i = 0; i < role.size(); ++i) messages.push_back({role[i].c_str(), content[i].c_str()});
    check(env, to.runner,
          blockffn_runner_generate_chat(to.runner, messages.data(), static_cast<int32_t>(messages.size()), &options,
                                        stop_strings.data(), stop_count, text_decided, &to));
  });
}

void generate_tokens(JNIEnv* env, jclass, jlong handle, jintArray prompt, jintArray ints, jdoubleArray doubles, jlong seed,
                     jobject listener) {
  guarded(env, [&] {
    const auto options = options_of(env, ints, doubles, seed);
    std::vector<int32_t> tokens(static_cast<size_t>(env->GetArrayLength(prompt)));
    if (!tokens.empty()) env->GetIntArrayRegion(prompt, 0, static_cast<jsize>(tokens.size()), tokens.data());
    if (env->ExceptionCheck()) return;
    Listener to{env, listener, runner_of(handle)};
    check(env, to.runner,
          blockffn_runner_generate(to.runner, tokens.data(), static_cast<int64_t>(tokens.size()), &options, token_decided, &to));
  });
}

void cancel(JNIEnv*, jclass, jlong handle) { blockffn_runner_cancel(runner_of(handle)); }

void reset(JNIEnv* env, jclass, jlong handle) { check(env, runner_of(handle), blockffn_runner_reset(runner_of(handle))); }

// In the order of Stats.kt.
jdoubleArray stats(JNIEnv* env, jclass, jlong handle) {
  return guarded(env, [&]() -> jdoubleArray {
    blockffn_runner_stats s;
    blockffn_runner_get_stats(runner_of(handle), &s);
    std::vector<double> values{
        static_cast<double>(s.stopped_by), static_cast<double>(s.prompt_tokens), static_cast<double>(s.reused_tokens),
        static_cast<double>(s.generated_tokens), static_cast<double>(s.cycles), static_cast<double>(s.drafted_tokens),
        static_cast<double>(s.accepted_tokens), s.ttft_ms, s.prefill_ms, s.decode_ms, s.draft_ms, s.verify_ms, s.other_ms,
        s.calibrate_ms, static_cast<double>(s.peak_rss_bytes), static_cast<double>(s.prefill_experts_read),
        static_cast<double>(s.prefill_experts_total)};
    for (const auto* counts : {s.emitted_histogram, s.chunks, s.experts_read, s.experts_total})
      values.insert(values.end(), counts, counts + 65);
    const auto n = static_cast<jsize>(values.size());
    jdoubleArray array = env->NewDoubleArray(n);
    if (array != nullptr) env->SetDoubleArrayRegion(array, 0, n, values.data());
    return array;
  });
}

// In the order of ModelInfo.kt.
jlongArray info(JNIEnv* env, jclass, jlong handle) {
  blockffn_runner_info i;
  blockffn_runner_get_info(runner_of(handle), &i);
  jlong values[] = {i.max_context, i.vocab_size, i.hidden_size, i.bos_id, i.has_tokenizer, i.has_draft_head};
  const jsize n = sizeof values / sizeof values[0];
  jlongArray array = env->NewLongArray(n);
  if (array != nullptr) env->SetLongArrayRegion(array, 0, n, values);
  return array;
}

jbyteArray chat_template(JNIEnv* env, jclass, jlong handle) {
  blockffn_runner_info i;
  blockffn_runner_get_info(runner_of(handle), &i);
  return new_bytes(env, i.chat_template, strnlen(i.chat_template, sizeof i.chat_template));
}

jbyteArray kernels(JNIEnv* env, jclass) {
  const char* name = blockffn_kernels();
  if (name == nullptr) name = "none";
  return new_bytes(env, name, std::strlen(name));
}

// Of what this thread loaded last.
jbyteArray device(JNIEnv* env, jclass) {
  const char* report = blockffn_device();
  return new_bytes(env, report, std::strlen(report));
}

// The library reads it where a GPU is first asked for.
void set_cache(JNIEnv* env, jclass, jbyteArray folder) {
  guarded(env, [&] {
    const std::string name = bytes_of(env, folder);
    const char* now = std::getenv(kCacheVariable);
    if (now == nullptr || name != now) setenv(kCacheVariable, name.c_str(), 1);
  });
}

jint set_threads(JNIEnv*, jclass, jint threads) {
  const int wanted = threads > 0 ? threads : blockffn_default_threads();
  return blockffn_set_threads(wanted) == 0 ? wanted : -1;
}

// jni.h declares the strings as char*, and nobody writes to them.
JNINativeMethod method(const char* name, const char* signature, void* function) {
  return {const_cast<char*>(name), const_cast<char*>(signature), function};
}

}  // namespace

// Without one of our own, a virtual machine that looks up the name finds the one of ExecuTorch's library, which
// expects Java classes that nobody ships.
extern "C" JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM* machine, void*) {
  JNIEnv* env = nullptr;
  if (machine->GetEnv(reinterpret_cast<void**>(&env), JNI_VERSION_1_6) != JNI_OK) return JNI_ERR;
  const jclass natives = env->FindClass("org/blockffn/Native");
  if (natives == nullptr) return JNI_ERR;
  const jclass exception = env->FindClass("org/blockffn/BlockFFNException");
  if (exception == nullptr) return JNI_ERR;
  exception_class = static_cast<jclass>(env->NewGlobalRef(exception));
  exception_constructor = env->GetMethodID(exception, "<init>", "(I[B)V");
  const jclass listener = env->FindClass("org/blockffn/Native$Listener");
  if (exception_constructor == nullptr || listener == nullptr) return JNI_ERR;
  on_text = env->GetMethodID(listener, "onText", "([BJJJJD)Z");
  on_token = env->GetMethodID(listener, "onToken", "(I)Z");
  if (on_text == nullptr || on_token == nullptr) return JNI_ERR;
#define METHOD(name, signature, function) method(name, signature, reinterpret_cast<void*>(function))
  const JNINativeMethod methods[] = {
      METHOD("load", "([BIJJ[B)J", load),
      METHOD("release", "(J)V", release),
      METHOD("loadTokenizer", "(J[BIJJZ[BIJJ)V", load_tokenizer),
      METHOD("loadDraft", "(J[BIJJ)V", load_draft),
      METHOD("encode", "(J[BZ)[I", encode),
      METHOD("generate", "(J[[B[[B[I[DJ[[BLorg/blockffn/Native$Listener;)V", generate),
      METHOD("generateTokens", "(J[I[I[DJLorg/blockffn/Native$Listener;)V", generate_tokens),
      METHOD("cancel", "(J)V", cancel),
      METHOD("reset", "(J)V", reset),
      METHOD("stats", "(J)[D", stats),
      METHOD("info", "(J)[J", info),
      METHOD("chatTemplate", "(J)[B", chat_template),
      METHOD("kernels", "()[B", kernels),
      METHOD("device", "()[B", device),
      METHOD("setCache", "([B)V", set_cache),
      METHOD("setThreads", "(I)I", set_threads),
  };
#undef METHOD
  if (env->RegisterNatives(natives, methods, sizeof methods / sizeof methods[0]) != JNI_OK) return JNI_ERR;
  return JNI_VERSION_1_6;
}
