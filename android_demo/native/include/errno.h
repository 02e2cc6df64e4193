// musl's numbers (the kernel's) with bionic's name for the thread's errno.
#pragma once
#include_next <errno.h>
#undef errno
#ifdef __cplusplus
extern "C"
#endif
    int* __errno(void) __attribute__((__const__));
#define errno (*__errno())
