/* What Android's C library has and musl has not, or numbers differently: preloaded where tests run libraries that
   were built for Android on musl's loader. Only what the libraries of the APK import; the tests check that list. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int* __errno(void) { return &errno; }
void __assert2(const char* file, int line, const char* function, const char* condition) {
  fprintf(stderr, "%s:%d: %s: assertion \"%s\" failed\n", file, line, function, condition);
  abort();
}
void android_set_abort_message(const char* message) { fprintf(stderr, "abort message: %s\n", message ? message : ""); }
int __system_property_get(const char* name, char* value) {
  (void)name;
  value[0] = 0;
  return 0;
}
char* __gnu_strerror_r(int error, char* buffer, size_t bytes) {
  strerror_r(error, buffer, bytes);
  return buffer;
}
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void* library) {
  (void)library;
  return pthread_atfork(prepare, parent, child);
}
long long strtoll_l(const char* text, char** end, int base, locale_t locale) {
  (void)locale;
  return strtoll(text, end, base);
}
unsigned long long strtoull_l(const char* text, char** end, int base, locale_t locale) {
  (void)locale;
  return strtoull(text, end, base);
}

/* The checked forms that a fortified build calls. */
static void check(int good, const char* function) {
  if (good) return;
  fprintf(stderr, "FORTIFY: %s\n", function);
  abort();
}
void* __memcpy_chk(void* to, const void* from, size_t n, size_t room) { return check(n <= room, __func__), memcpy(to, from, n); }
void* __memmove_chk(void* to, const void* from, size_t n, size_t room) { return check(n <= room, __func__), memmove(to, from, n); }
void* __memset_chk(void* to, int byte, size_t n, size_t room) { return check(n <= room, __func__), memset(to, byte, n); }
size_t __strlen_chk(const char* text, size_t room) {
  const size_t n = strlen(text);
  check(n < room, __func__);
  return n;
}
char* __strchr_chk(const char* text, int c, size_t room) { return (void)room, strchr(text, c); }
char* __strrchr_chk(const char* text, int c, size_t room) { return (void)room, strrchr(text, c); }
int __vsnprintf_chk(char* to, size_t n, int flags, size_t room, const char* format, va_list arguments) {
  (void)flags;
  check(n <= room, __func__);
  return vsnprintf(to, n, format, arguments);
}
int __vsprintf_chk(char* to, int flags, size_t room, const char* format, va_list arguments) {
  (void)flags;
  return vsnprintf(to, room, format, arguments);
}
int __open_2(const char* path, int flags) { return open(path, flags); }
ssize_t __read_chk(int fd, void* to, size_t n, size_t room) { return check(n <= room, __func__), read(fd, to, n); }
ssize_t __write_chk(int fd, const void* from, size_t n, size_t room) { return check(n <= room, __func__), write(fd, from, n); }
ssize_t __pread_chk(int fd, void* to, size_t n, off_t at, size_t room) { return check(n <= room, __func__), pread(fd, to, n, at); }

/* bionic's numbers of _SC_PAGESIZE and its twin, and of the processors. SHIM_NPROC: how many there are. */
long sysconf(int name) {
  switch (name) {
    case 39:
    case 40:
      return 4096;
    case 96:
    case 97: {
      const char* set = getenv("SHIM_NPROC");
      return set ? atoi(set) : 2;
    }
    default:
      fprintf(stderr, "shim: sysconf(%d): is it a number of another C library? See native/include/unistd.h\n", name);
      abort();
  }
}

/* Destructors of thread-locals. */
struct destructor {
  void (*run)(void*);
  void* object;
  struct destructor* next;
};
static pthread_key_t destructors;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static void run_destructors(void* list) {
  for (struct destructor *d = list, *next; d != NULL; d = next) {
    next = d->next;
    d->run(d->object);
    free(d);
  }
}
static void make_key(void) { pthread_key_create(&destructors, run_destructors); }
int __cxa_thread_atexit_impl(void (*run)(void*), void* object, void* library) {
  (void)library;
  pthread_once(&once, make_key);
  struct destructor* d = malloc(sizeof *d);
  *d = (struct destructor){run, object, pthread_getspecific(destructors)};
  pthread_setspecific(destructors, d);
  return 0;
}

/* stdin, stdout and stderr are elements of an array in old versions of bionic, of 152 bytes each. */
char __sF[3 * 152];
static FILE* stream(FILE* file) {
  const size_t at = (size_t)((char*)file - __sF);
  return at >= sizeof __sF ? file : at / 152 == 0 ? stdin : at / 152 == 1 ? stdout : stderr;
}
int fprintf(FILE* file, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int n = vfprintf(stream(file), format, arguments);
  va_end(arguments);
  return n;
}
int fputc(int c, FILE* file) { return putc(c, stream(file)); }

/* A program's start: crtbegin_dynamic.c calls this with the kernel's stack. */
__attribute__((noreturn)) void __libc_init(void* stack, void (*at_exit)(void), int (*main)(int, char**, char**),
                                           const void* functions) {
  (void)at_exit, (void)functions;
  long* words = stack;
  char** arguments = (char**)(words + 1);
  exit(main((int)words[0], arguments, arguments + words[0] + 1));
}
