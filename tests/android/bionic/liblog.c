/* Android's liblog, to stderr. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int __android_log_vprint(int priority, const char* tag, const char* format, va_list arguments) {
  fprintf(stderr, "[%d %s] ", priority, tag ? tag : "");
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  return 1;
}
int __android_log_print(int priority, const char* tag, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int n = __android_log_vprint(priority, tag, format, arguments);
  va_end(arguments);
  return n;
}
int __android_log_write(int priority, const char* tag, const char* message) {
  return __android_log_print(priority, tag, "%s", message);
}
void __android_log_assert(const char* condition, const char* tag, const char* format, ...) {
  fprintf(stderr, "[assert %s] %s\n", tag ? tag : "", condition ? condition : format);
  abort();
}
