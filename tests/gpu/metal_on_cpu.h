// Enough of the Metal Shading Language to run the kernels of runtime_delegates/gpu/metal as C++, thread by thread: it
// checks what they mean, not that Apple's compiler takes them or that they are fast.
//
// The threads of a threadgroup are contexts of one thread that change at barriers, in order (by setjmp, because
// swapcontext asks the kernel each time). Kernels are compiled with
// `threadgroup` variables made static, which is right because one threadgroup runs at a time.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#define kernel
#define device
#define thread
#define threadgroup
#define constant const

namespace metal {
using uint = uint32_t;

template <class T, int N>
struct Vector;
template <class T>
struct Vector<T, 2> {
  T x, y;
  Vector() = default;
  constexpr explicit Vector(T a) : x(a), y(a) {}
  constexpr Vector(T a, T b) : x(a), y(b) {}
  template <class From>
  constexpr explicit Vector(Vector<From, 2> from) : x(static_cast<T>(from.x)), y(static_cast<T>(from.y)) {}
  T& operator[](uint i) { return (&x)[i]; }
};
template <class T>
struct Vector<T, 3> {
  T x, y, z;
  Vector() = default;
  constexpr Vector(T a, T b, T c) : x(a), y(b), z(c) {}
};
using half = _Float16;
template <class T>
struct alignas(16) Vector<T, 4> {
  T x, y, z, w;
  Vector<T, 2> xz() const { return {x, z}; }
  Vector<T, 2> yw() const { return {y, w}; }
  Vector() = default;
  constexpr explicit Vector(T a) : x(a), y(a), z(a), w(a) {}
  constexpr Vector(T a, T b, T c, T d) : x(a), y(b), z(c), w(d) {}
  T& operator[](uint i) { return (&x)[i]; }
};
using uint2 = Vector<uint, 2>;
using uint3 = Vector<uint, 3>;
using uint4 = Vector<uint, 4>;
using float4 = Vector<float, 4>;
using half2 = Vector<half, 2>;
inline half2 operator*(half2 a, half2 b) { return half2(half(a.x * b.x), half(a.y * b.y)); }
inline half2 operator-(half2 a, half2 b) { return half2(a.x - b.x, a.y - b.y); }
inline float4 operator*(float4 a, float b) { return float4(a.x * b, a.y * b, a.z * b, a.w * b); }

template <class To, class From>
To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
inline float fma(float a, float b, float c) { return std::fma(a, b, c); }
// In two roundings, as lavapipe does, so that results can be compared closely; a GPU takes one.
inline half round(float a) { return static_cast<half>(a); }
inline half fma(half a, half b, half c) { return round(float{round(float{a} * float{b})} + float{c}); }
inline half2 fma(half2 a, half2 b, half2 c) { return half2(fma(a.x, b.x, c.x), fma(a.y, b.y, c.y)); }
inline half abs(half a) { return a < 0 ? -a : a; }
inline half2 abs(half2 a) { return half2(abs(a.x), abs(a.y)); }
inline half max(half a, half b) { return a > b ? a : b; }
inline half2 max(half2 a, half2 b) { return half2(max(a.x, b.x), max(a.y, b.y)); }
inline float sqrt(float a) { return std::sqrt(a); }
inline float floor(float a) { return std::floor(a); }
inline float abs(float a) { return std::fabs(a); }
inline uint min(uint a, uint b) { return a < b ? a : b; }
inline uint max(uint a, uint b) { return a > b ? a : b; }
inline float max(float a, float b) { return std::fmax(a, b); }
namespace fast {  // what a NaN gives is up to the GPU
inline float max(float a, float b) { return std::fmax(a, b); }
}  // namespace fast
inline uint popcount(uint a) { return static_cast<uint>(__builtin_popcount(a)); }
inline int extract_bits(int from, uint at, uint bits) {
  return static_cast<int>(static_cast<uint>(from) << (32 - at - bits)) >> (32 - bits);
}

using atomic_uint = uint;
enum memory_order { memory_order_relaxed };
inline uint atomic_fetch_or_explicit(atomic_uint* to, uint value, memory_order) {
  const uint before = *to;
  *to |= value;
  return before;
}
inline uint atomic_fetch_max_explicit(atomic_uint* to, uint value, memory_order) {
  const uint before = *to;
  *to = max(before, value);
  return before;
}

// One threadgroup at a time.
struct Group {
  struct Thread {
    ucontext_t context;
    jmp_buf place;
    std::vector<char> stack = std::vector<char>(size_t{1} << 16);
    bool begun = false, done = false;
  };
  std::vector<Thread> threads;
  ucontext_t scheduler;
  jmp_buf back;
  size_t current = 0;
  std::function<void(uint)> body;

  static Group& the() {
    static Group group;
    return group;
  }
  static void enter() {
    Group& g = the();
    g.body(static_cast<uint>(g.current));
    g.threads[g.current].done = true;
    _longjmp(g.back, 1);
  }
  void resume() {
    Thread& t = threads[current];
    if (_setjmp(back) != 0) return;
    if (t.begun) _longjmp(t.place, 1);
    t.begun = true;
    swapcontext(&scheduler, &t.context);
  }
  // False if some threads returned while others wait at a barrier: on a GPU those would wait for ever.
  bool run(uint count, std::function<void(uint)> what) {
    if (threads.size() < count) threads = std::vector<Thread>(count);  // contexts must not move
    body = std::move(what);
    for (Thread& t : threads) {
      t.begun = t.done = false;
      if (t.context.uc_stack.ss_sp != nullptr) continue;
      getcontext(&t.context);
      t.context.uc_stack.ss_sp = t.stack.data();
      t.context.uc_stack.ss_size = t.stack.size();
      t.context.uc_link = nullptr;
      makecontext(&t.context, enter, 0);
    }
    for (;;) {
      size_t finished = 0;
      for (current = 0; current < count; ++current) {
        resume();
        finished += threads[current].done;
      }
      if (finished == count) return true;
      if (finished != 0) return false;
    }
  }
};
enum class mem_flags { mem_none, mem_device, mem_threadgroup };
inline void threadgroup_barrier(mem_flags) {
  Group& g = Group::the();
  if (_setjmp(g.threads[g.current].place) == 0) _longjmp(g.back, 1);
}

template <class Call>
int run_grid(const uint* groups, uint threads, Call call) {
  for (uint z = 0; z < groups[2]; ++z)
    for (uint y = 0; y < groups[1]; ++y)
      for (uint x = 0; x < groups[0]; ++x)
        if (!Group::the().run(threads, [&](uint t) {
              call(uint3(t, 0, 0), uint3(x, y, z), uint3(x * threads + t, y, z));
            }))
          return 1;
  return 0;
}
}  // namespace metal
