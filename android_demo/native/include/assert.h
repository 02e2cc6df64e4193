// No include guard: assert follows NDEBUG at each inclusion. bionic's name for the function behind it.
#include <features.h>
#undef assert
#ifdef NDEBUG
#define assert(x) ((void)0)
#else
#define assert(x) ((x) ? (void)0 : __assert2(__FILE__, __LINE__, __func__, #x))
#endif
#ifdef __cplusplus
extern "C"
#else
#undef static_assert
#define static_assert _Static_assert
#endif
    void __assert2(const char* file, int line, const char* function, const char* condition)
        __attribute__((__noreturn__));
