/* pthread_atfork is in the NDK's start files too, and no function of bionic on 64-bit processors: so a library's handlers are
   forgotten when it is unloaded. */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void* library);

__attribute__((visibility("hidden"))) int pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
  return __register_atfork(prepare, parent, child, &__dso_handle);
}
