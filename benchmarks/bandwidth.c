/* Reads memory as fast as one core or several can: the peak beside which kernels are judged.

   Every thread reads its share of the buffer as `streams` sequential streams side by side, 64 bytes of
   each in turn. Several streams keep more cache lines in flight than the prefetcher of one does. */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t half __attribute__((vector_size(32), aligned(32))); /* so that 8 sums fit the registers of AVX2 */
typedef struct {
  half low, high;
} line;
enum { MAX_STREAMS = 16, MAX_THREADS = 64 };

typedef struct {
  const line* data;
  size_t lines; /* of each stream */
  int streams;
  uint64_t sum;
} share;

#define READ(S)                                                                       \
  static void read_##S(share* s) {                                                    \
    half sum[S] = {{0}};                                                              \
    for (size_t i = 0; i < s->lines; i++)                                             \
      for (int k = 0; k < S; k++) {                                                   \
        const line* p = s->data + k * s->lines + i;                                   \
        sum[k] ^= p->low ^ p->high;                                                   \
      }                                                                               \
    for (int k = 1; k < S; k++) sum[0] ^= sum[k];                                     \
    for (int k = 0; k < 4; k++) s->sum ^= sum[0][k];                                  \
  }
READ(1) READ(2) READ(4) READ(8) READ(16)

static void* work(void* argument) {
  share* s = argument;
  if (s->streams == 1) read_1(s);
  if (s->streams == 2) read_2(s);
  if (s->streams == 4) read_4(s);
  if (s->streams == 8) read_8(s);
  if (s->streams == 16) read_16(s);
  return NULL;
}

/* Reads the first bytes / (64 * streams * threads) * (64 * streams * threads) bytes of a buffer aligned to 64.
   streams is 1, 2, 4, 8 or 16. Returns a checksum, so that no read can be left out. */
uint64_t read_memory(const void* data, size_t bytes, int streams, int threads) {
  share shares[MAX_THREADS];
  pthread_t ids[MAX_THREADS];
  int started[MAX_THREADS];
  if (threads > MAX_THREADS) threads = MAX_THREADS;
  size_t lines = bytes / sizeof(line) / streams / threads;
  uint64_t sum = 0;
  for (int t = 0; t < threads; t++) {
    shares[t] = (share){(const line*)data + t * lines * streams, lines, streams, 0};
    started[t] = t > 0 && pthread_create(&ids[t], NULL, work, &shares[t]) == 0;
  }
  for (int t = 0; t < threads; t++)
    if (!started[t]) work(&shares[t]);
  for (int t = 0; t < threads; t++) {
    if (started[t]) pthread_join(ids[t], NULL);
    sum ^= shares[t].sum;
  }
  return sum;
}
