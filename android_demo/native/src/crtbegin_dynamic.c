/* The NDK's crtbegin_dynamic.o, as far as a program needs it whose constructors the dynamic linker runs:
   the stack that the kernel prepared goes to bionic, which calls main. */
#include <stddef.h>

#include "android_note.h"

int main(int argc, char** argv, char** envp);

struct arrays_of_functions {
  void (**preinit)(void), (**init)(void), (**fini)(void);
  size_t preinit_count, init_count, fini_count;
};
__attribute__((noreturn)) void __libc_init(void* stack, void (*at_exit)(void), int (*main)(int, char**, char**),
                                           const struct arrays_of_functions* functions);

__attribute__((visibility("hidden"))) void* __dso_handle = NULL;

__attribute__((used, noreturn)) static void start(void* stack) {
  static const struct arrays_of_functions none = {0};
  __libc_init(stack, NULL, main, &none);
}

__asm__(
    ".text; .global _start; .type _start, %function; _start:\n"
#if defined(__aarch64__)
    "mov x29, #0; mov x30, #0; mov x0, sp; b start\n"
#elif defined(__x86_64__)
    "xorl %ebp, %ebp; movq %rsp, %rdi; andq $-16, %rsp; callq start\n"
#endif
    ".size _start, . - _start");

#if defined(__aarch64__)
/* Android 10 and later keep slots of their own in the first 64 bytes behind the thread pointer: a
   TLS segment that is aligned so leaves them free, also where the program has no thread-locals. */
__asm__(".section .tdata, \"awT\", @progbits; .p2align 6; .text; .reloc 0, R_AARCH64_NONE, .tdata");
#endif
