// What the NDK's crtbegin_so.o does: the handle of this library for its static destructors, which run when
// the library is unloaded, and the note with the API level.
#include "android_note.h"

extern void __cxa_finalize(void*);

__attribute__((visibility("hidden"))) void* __dso_handle = &__dso_handle;

__attribute__((destructor)) static void finalize(void) { __cxa_finalize(&__dso_handle); }
