/* A stand-in for the virtual machine: loads libblockffn_jni.so as System.loadLibrary does and calls its native
   methods through JNI, with just the functions of JNI that the library uses. Objects are structs of this file.

   host [--path FILE | --range FILE OFFSET BYTES] [--tokenizer FILE] [--draft FILE] [--cancel-after N] (--tokens ID,ID,... | --text STRING)
        [--device cpu|gpu|auto] [--cache FOLDER] [--all-experts] [--mode plain|chain|tree|head-chain|head-tree|auto]... [--max-tokens N]
   host --flip FILE POSITION,POSITION,...

   Per --mode one line of JSON: {"mode", "tokens" | "text", "stopped_by", "cycles", "error"}, then one with the memory:
   {"kernels", "device", "anonymous_kb", "rss_kb"}. --flip: for each byte position of FILE a line {"error", "code"} with one bit of it
   flipped, code 0 where it could be loaded and run. Exit status 0 unless the library misbehaves. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <jni.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* musl puts the program's thread-locals at 16 bytes behind the thread pointer on arm64, where code for Android
   reads its stack guard (at 40): reserve the place with bytes that nobody writes. */
__thread char reserved[256] __attribute__((aligned(16))) = {1, 2, 3};

typedef struct {
  jsize n;
  char* data;
  void** elements;
} array;

static struct {
  int pending, code;
  char message[2048];
} thrown;

static int cancel_after = -1, seen, text_mode;
static int32_t tokens[8192];
static char text[1 << 16];
static size_t text_bytes;
static jlong runner;
static void (*cancel)(JNIEnv*, jclass, jlong);
static JNIEnv environment;

static array* new_array(jsize n, size_t width) {
  array* a = calloc(1, sizeof *a);
  a->n = n;
  a->data = calloc((size_t)n + 1, width);
  a->elements = calloc((size_t)n + 1, sizeof(void*));
  return a;
}

#define ENV (JNIEnv * env)
static jint get_version(JNIEnv* env) { return (void)env, JNI_VERSION_1_6; }
static jclass find_class(JNIEnv* env, const char* name) { return (void)env, (jclass)strdup(name); }
static jmethodID get_method(JNIEnv* env, jclass c, const char* name, const char* signature) {
  (void)env, (void)c, (void)signature;
  return (jmethodID)strdup(name);
}
static jobject same(JNIEnv* env, jobject o) { return (void)env, o; }
static void nothing(JNIEnv* env, jobject o) { (void)env, (void)o; }
static jboolean exception_check(JNIEnv* env) { return (void)env, (jboolean)thrown.pending; }
static jsize length(JNIEnv* env, jarray a) { return (void)env, ((array*)a)->n; }
static jbyteArray new_bytes(JNIEnv* env, jsize n) { return (void)env, (jbyteArray)new_array(n, 1); }
static jintArray new_ints(JNIEnv* env, jsize n) { return (void)env, (jintArray)new_array(n, 4); }
static jlongArray new_longs(JNIEnv* env, jsize n) { return (void)env, (jlongArray)new_array(n, 8); }
static jdoubleArray new_doubles(JNIEnv* env, jsize n) { return (void)env, (jdoubleArray)new_array(n, 8); }
static jobject element(JNIEnv* env, jobjectArray a, jsize i) { return (void)env, (jobject)((array*)a)->elements[i]; }
#define REGIONS(type, jni)                                                                        \
  static void get_##type(JNIEnv* env, jni##Array a, jsize from, jsize n, jni* to) {               \
    (void)env;                                                                                    \
    if (from < 0 || n < 0 || from + n > ((array*)a)->n) fprintf(stderr, "region beyond\n"), abort(); \
    memcpy(to, ((array*)a)->data + (size_t)from * sizeof *to, (size_t)n * sizeof *to);            \
  }                                                                                               \
  static void set_##type(JNIEnv* env, jni##Array a, jsize from, jsize n, const jni* with) {       \
    (void)env;                                                                                    \
    if (from < 0 || n < 0 || from + n > ((array*)a)->n) fprintf(stderr, "region beyond\n"), abort(); \
    memcpy(((array*)a)->data + (size_t)from * sizeof *with, with, (size_t)n * sizeof *with);      \
  }
REGIONS(byte, jbyte)
REGIONS(int, jint)
REGIONS(long, jlong)
REGIONS(double, jdouble)

/* The only constructor: BlockFFNException(int, byte[]). */
static jobject new_object(JNIEnv* env, jclass c, jmethodID m, va_list arguments) {
  (void)env, (void)m;
  if (strcmp((char*)c, "org/blockffn/BlockFFNException") != 0) fprintf(stderr, "new %s\n", (char*)c), abort();
  thrown.code = va_arg(arguments, jint);
  array* message = va_arg(arguments, array*);
  snprintf(thrown.message, sizeof thrown.message, "%.*s", (int)message->n, message->data);
  return (jobject)&thrown;
}
static jobject new_object_variadic(JNIEnv* env, jclass c, jmethodID m, ...) {
  va_list arguments;
  va_start(arguments, m);
  jobject o = new_object(env, c, m, arguments);
  va_end(arguments);
  return o;
}
static jint throw_it(JNIEnv* env, jthrowable t) {
  (void)env;
  if ((void*)t != &thrown) abort();
  return thrown.pending = 1, 0;
}

/* The listener. */
static jboolean call_boolean(JNIEnv* env, jobject o, jmethodID m, va_list arguments) {
  (void)o;
  if (strcmp((char*)m, "onToken") == 0) {
    tokens[seen] = va_arg(arguments, jint);
  } else {
    array* piece = va_arg(arguments, array*);
    memcpy(text + text_bytes, piece->data, (size_t)piece->n);
    text_bytes += (size_t)piece->n;
  }
  if (++seen == cancel_after) cancel(env, NULL, runner);
  return 1;
}
static jboolean call_boolean_variadic(JNIEnv* env, jobject o, jmethodID m, ...) {
  va_list arguments;
  va_start(arguments, m);
  jboolean more = call_boolean(env, o, m, arguments);
  va_end(arguments);
  return more;
}

static JNINativeMethod* methods;
static jint method_count;
static jint register_natives(JNIEnv* env, jclass c, const JNINativeMethod* list, jint n) {
  (void)env;
  if (strcmp((char*)c, "org/blockffn/Native") != 0) return -1;
  methods = malloc((size_t)n * sizeof *methods);
  memcpy(methods, list, (size_t)n * sizeof *methods);
  method_count = n;
  return 0;
}
static void* method(const char* name) {
  for (jint i = 0; i < method_count; ++i)
    if (strcmp(methods[i].name, name) == 0) return methods[i].fnPtr;
  fprintf(stderr, "no native method %s\n", name);
  exit(1);
}

static jint get_env(JavaVM* vm, void** env, jint version) { return (void)vm, (void)version, *env = &environment, JNI_OK; }

static void print_string(const char* s, size_t n) {
  putchar('"');
  for (size_t i = 0; i < n; ++i) {
    const unsigned char c = (unsigned char)s[i];
    if (c == '"' || c == '\\')
      printf("\\%c", c);
    else if (c < 32)
      printf("\\u%04x", c);
    else
      putchar(c);
  }
  putchar('"');
}

static long status_kb(const char* key) {
  FILE* f = fopen("/proc/self/status", "r");
  char line[256];
  long kb = -1;
  while (f && fgets(line, sizeof line, f))
    if (strncmp(line, key, strlen(key)) == 0) kb = atol(line + strlen(key) + 1);
  if (f) fclose(f);
  return kb;
}

static void report_error(void) {
  printf("{\"error\": ");
  print_string(thrown.message, strlen(thrown.message));
  printf(", \"code\": %d}\n", thrown.code);
  thrown.pending = 0;
}

typedef jlong load_fn(JNIEnv*, jclass, jbyteArray, jint, jlong, jlong, jbyteArray);
typedef void generate_tokens_fn(JNIEnv*, jclass, jlong, jintArray, jintArray, jdoubleArray, jlong, jobject);

static int all_experts;
static array *ints_of(const char* mode, int max_tokens), *doubles_of(void), *bytes_of(const char* s);

/* Flips a bit of each position in turn, and loads and runs the file. */
static int flip(const char* name, char* positions) {
  JNIEnv* env = &environment;
  const int fd = open(name, O_RDWR);
  if (fd < 0) return perror(name), 1;
  for (char* part = strtok(positions, ","); part != NULL; part = strtok(NULL, ",")) {
    const off_t at = atoll(part);
    unsigned char byte;
    if (pread(fd, &byte, 1, at) != 1) return perror(name), 1;
    const unsigned char other = byte ^ (unsigned char)(1 << at % 8);
    if (pwrite(fd, &other, 1, at) != 1) return perror(name), 1;
    runner = ((load_fn*)method("load"))(env, NULL, NULL, fd, 0, 0, (jbyteArray)bytes_of("cpu"));
    if (!thrown.pending) {
      array* ids = new_array(3, 4);
      ((jint*)ids->data)[0] = 1, ((jint*)ids->data)[1] = 100, ((jint*)ids->data)[2] = 200;
      seen = 0;
      ((generate_tokens_fn*)method("generateTokens"))(env, NULL, runner, (jintArray)ids, (jintArray)ints_of("chain", 3), (jdoubleArray)doubles_of(), 0, NULL);
    }
    if (thrown.pending)
      report_error();
    else
      printf("{\"error\": \"\", \"code\": 0}\n");
    if (runner != 0) ((void (*)(JNIEnv*, jclass, jlong))method("release"))(env, NULL, runner);
    if (pwrite(fd, &byte, 1, at) != 1) return perror(name), 1;
  }
  return 0;
}

/* Options.ints() and Options.doubles() of Options.kt. */
static array* ints_of(const char* mode, int max_tokens) {
  const int head = strncmp(mode, "head-", 5) == 0;
  const char* shape = head ? mode + 5 : mode;
  const int kind = strcmp(shape, "plain") == 0 ? 0 : strcmp(shape, "auto") == 0 ? 2 : 1;
  const jint values[7] = {max_tokens, kind, 7, strcmp(shape, "tree") == 0 ? 3 : 1, 0, head ? 2 : 1, all_experts};
  array* a = new_array(7, 4);
  memcpy(a->data, values, sizeof values);
  return a;
}

static array* doubles_of(void) {
  array* a = new_array(3, 8);
  ((jdouble*)a->data)[1] = ((jdouble*)a->data)[2] = 1;
  return a;
}

static array* bytes_of(const char* s) {
  array* a = new_array((jsize)strlen(s), 1);
  memcpy(a->data, s, strlen(s));
  return a;
}

int main(int argc, char** argv) {
  (void)*(volatile char*)reserved;
  setvbuf(stdout, NULL, _IOLBF, 0);
  const char *path = NULL, *range = NULL, *tokenizer = NULL, *draft = NULL, *prompt_tokens = NULL, *prompt_text = NULL, *flipped = NULL, *device = "cpu", *cache = NULL, *modes[8];
  char* flips = NULL;
  jlong offset = 0, bytes = 0;
  int mode_count = 0, max_tokens = 32;
  for (int i = 1; i < argc; ++i) {
    const char* a = argv[i];
    if (strcmp(a, "--path") == 0) path = argv[++i];
    else if (strcmp(a, "--range") == 0) range = argv[++i], offset = atoll(argv[++i]), bytes = atoll(argv[++i]);
    else if (strcmp(a, "--tokenizer") == 0) tokenizer = argv[++i];
    else if (strcmp(a, "--draft") == 0) draft = argv[++i];
    else if (strcmp(a, "--flip") == 0) flipped = argv[++i], flips = argv[++i];
    else if (strcmp(a, "--device") == 0) device = argv[++i];
    else if (strcmp(a, "--cache") == 0) cache = argv[++i];
    else if (strcmp(a, "--all-experts") == 0) all_experts = 1;
    else if (strcmp(a, "--cancel-after") == 0) cancel_after = atoi(argv[++i]);
    else if (strcmp(a, "--tokens") == 0) prompt_tokens = argv[++i];
    else if (strcmp(a, "--text") == 0) prompt_text = argv[++i];
    else if (strcmp(a, "--mode") == 0 && mode_count < 8) modes[mode_count++] = argv[++i];
    else if (strcmp(a, "--max-tokens") == 0) max_tokens = atoi(argv[++i]);
    else return fprintf(stderr, "unknown argument %s\n", a), 2;
  }
  struct JNINativeInterface_ jni;
  memset(&jni, 0, sizeof jni); /* a function that the library must not need crashes it */
  jni.GetVersion = get_version, jni.FindClass = find_class, jni.GetMethodID = get_method, jni.NewGlobalRef = same;
  jni.DeleteLocalRef = nothing, jni.ExceptionCheck = exception_check, jni.GetArrayLength = length;
  jni.NewByteArray = new_bytes, jni.NewIntArray = new_ints, jni.NewLongArray = new_longs, jni.NewDoubleArray = new_doubles;
  jni.GetObjectArrayElement = element, jni.NewObjectV = new_object, jni.NewObject = new_object_variadic, jni.Throw = throw_it;
  jni.GetByteArrayRegion = get_byte, jni.SetByteArrayRegion = set_byte, jni.GetIntArrayRegion = get_int;
  jni.SetIntArrayRegion = set_int, jni.SetLongArrayRegion = set_long, jni.GetLongArrayRegion = get_long;
  jni.SetDoubleArrayRegion = set_double, jni.GetDoubleArrayRegion = get_double;
  jni.CallBooleanMethod = call_boolean_variadic, jni.CallBooleanMethodV = call_boolean, jni.RegisterNatives = register_natives;
  environment = &jni;
  struct JNIInvokeInterface_ invoke;
  memset(&invoke, 0, sizeof invoke);
  invoke.GetEnv = get_env;
  JavaVM machine = &invoke;

  void* library = dlopen("libblockffn_jni.so", RTLD_NOW);
  if (library == NULL) return fprintf(stderr, "dlopen: %s\n", dlerror()), 1;
  jint (*on_load)(JavaVM*, void*) = (jint(*)(JavaVM*, void*))dlsym(library, "JNI_OnLoad");
  Dl_info where;
  if (on_load == NULL || !dladdr((void*)on_load, &where) || strstr(where.dli_fname, "libblockffn_jni.so") == NULL)
    return fprintf(stderr, "JNI_OnLoad is not this library's\n"), 1;
  if (on_load(&machine, NULL) != JNI_VERSION_1_6) return fprintf(stderr, "JNI_OnLoad failed\n"), 1;

  JNIEnv* env = &environment;
  ((jint(*)(JNIEnv*, jclass, jint))method("setThreads"))(env, NULL, 2);
  cancel = (void (*)(JNIEnv*, jclass, jlong))method("cancel");
  if (flipped != NULL) return flip(flipped, flips);
  if (cache != NULL) ((void (*)(JNIEnv*, jclass, jbyteArray))method("setCache"))(env, NULL, (jbyteArray)bytes_of(cache));
  int fd = -1;
  if (range != NULL && (fd = open(range, O_RDONLY)) < 0) return perror(range), 1;
  const long before = status_kb("RssAnon:");
  runner = ((load_fn*)method("load"))(env, NULL, path ? (jbyteArray)bytes_of(path) : NULL, fd, offset, bytes, (jbyteArray)bytes_of(device));
  if (fd >= 0) close(fd); /* the mapping must not need it */
  if (thrown.pending) return report_error(), 0;
  array* where_it_runs = ((array * (*)(JNIEnv*, jclass)) method("device"))(env, NULL);
  if (tokenizer != NULL) {
    ((void (*)(JNIEnv*, jclass, jlong, jbyteArray, jint, jlong, jlong, jboolean, jbyteArray, jint, jlong, jlong))method("loadTokenizer"))(
        env, NULL, runner, (jbyteArray)bytes_of(tokenizer), -1, 0, 0, 0, NULL, -1, 0, 0);
    if (thrown.pending) return report_error(), 0;
  }
  if (draft != NULL) {
    ((void (*)(JNIEnv*, jclass, jlong, jbyteArray, jint, jlong, jlong))method("loadDraft"))(env, NULL, runner, (jbyteArray)bytes_of(draft), -1, 0, 0);
    if (thrown.pending) return report_error(), 0;
  }
  array* kernels = ((array * (*)(JNIEnv*, jclass)) method("kernels"))(env, NULL);

  array *ids = NULL, *contents = NULL;
  if (prompt_tokens != NULL) {
    ids = new_array(4096, 4);
    jsize n = 0;
    for (char* part = strtok(strdup(prompt_tokens), ","); part != NULL; part = strtok(NULL, ",")) ((jint*)ids->data)[n++] = atoi(part);
    ids->n = n;
  } else if (prompt_text != NULL) {
    contents = new_array(1, 8);
    contents->elements[0] = bytes_of(prompt_text);
    text_mode = 1;
  }
  for (int m = 0; m < mode_count; ++m) {
    array *ints = ints_of(modes[m], max_tokens), *doubles = doubles_of();
    seen = 0, text_bytes = 0;
    ((void (*)(JNIEnv*, jclass, jlong))method("reset"))(env, NULL, runner);
    if (text_mode)
      ((void (*)(JNIEnv*, jclass, jlong, jobjectArray, jobjectArray, jintArray, jdoubleArray, jlong, jobjectArray, jobject))method("generate"))(
          env, NULL, runner, NULL, (jobjectArray)contents, (jintArray)ints, (jdoubleArray)doubles, 0, NULL, NULL);
    else
      ((generate_tokens_fn*)method("generateTokens"))(
          env, NULL, runner, (jintArray)ids, (jintArray)ints, (jdoubleArray)doubles, 0, NULL);
    if (thrown.pending) {
      report_error();
      continue;
    }
    const jdouble* stats = (jdouble*)((array * (*)(JNIEnv*, jclass, jlong)) method("stats"))(env, NULL, runner)->data;
    printf("{\"mode\": \"%s\", ", modes[m]);
    if (text_mode) {
      printf("\"text\": ");
      print_string(text, text_bytes);
    } else {
      printf("\"tokens\": [");
      for (int i = 0; i < seen; ++i) printf(i ? ", %d" : "%d", tokens[i]);
      printf("]");
    }
    printf(", \"stopped_by\": %d, \"generated\": %d, \"cycles\": %d, \"drafted\": %d}\n", (int)stats[0], (int)stats[3], (int)stats[4], (int)stats[5]);
  }
  printf("{\"kernels\": \"%.*s\", \"device\": \"%.*s\", \"anonymous_kb\": %ld, \"rss_kb\": %ld}\n", (int)kernels->n, kernels->data,
         (int)where_it_runs->n, where_it_runs->data,
         status_kb("RssAnon:") - before, status_kb("VmHWM:"));
  ((void (*)(JNIEnv*, jclass, jlong))method("release"))(env, NULL, runner);
  return 0;
}
