/* Thread-local variables below API 29, where bionic's linker knows no TLS segments: compilers call this
   function instead (clang's emulated TLS). Each thread has an array of copies, found by a variable's number. */
#define _POSIX_C_SOURCE 200809L  /* posix_memalign */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct variable { /* laid out by the compiler */
  size_t size, align;
  uintptr_t number; /* 0 until the first use */
  const void* initial;
};
struct copies {
  uintptr_t count;
  void* data[];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_key_t key;
static uintptr_t numbers; /* given so far; the key exists once it is not 0 */

static void free_copies(void* all) {
  struct copies* copies = all;
  for (uintptr_t i = 0; i < copies->count; ++i) free(copies->data[i]);
  free(copies);
}

__attribute__((visibility("hidden"))) void* __emutls_get_address(struct variable* variable) {
  uintptr_t number = __atomic_load_n(&variable->number, __ATOMIC_ACQUIRE);
  if (number == 0) {
    pthread_mutex_lock(&mutex);
    if (variable->number == 0) {
      if (numbers == 0 && pthread_key_create(&key, free_copies) != 0) abort();
      __atomic_store_n(&variable->number, ++numbers, __ATOMIC_RELEASE);
    }
    number = variable->number;
    pthread_mutex_unlock(&mutex);
  }
  struct copies* copies = pthread_getspecific(key);
  if (copies == NULL || copies->count < number) {
    const uintptr_t before = copies == NULL ? 0 : copies->count, count = number + 15;
    copies = realloc(copies, sizeof *copies + count * sizeof copies->data[0]);
    if (copies == NULL) abort(); /* as any thread-local that does not fit */
    memset(copies->data + before, 0, (count - before) * sizeof copies->data[0]);
    copies->count = count;
    pthread_setspecific(key, copies);
  }
  void** data = &copies->data[number - 1];
  if (*data == NULL) {
    const size_t align = variable->align < sizeof(void*) ? sizeof(void*) : variable->align;
    if (posix_memalign(data, align, variable->size) != 0) abort();
    if (variable->initial != NULL)
      memcpy(*data, variable->initial, variable->size);
    else
      memset(*data, 0, variable->size);
  }
  return *data;
}
