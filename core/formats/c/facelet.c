/* All of the engine in one file. What is compiled is for the processor that the compiler is told
 * of: -march=native for this very one. Little-endian, GCC or clang. */
#if !defined(__GNUC__)
#error "facelet needs the vector types of GCC or clang"
#elif !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "facelet needs a little-endian processor"
#endif

#include "facelet.h"

#define FACELET_LOCAL static
#define FACELET_OTHER static
#include "net.h"

/* Whatever the compiler is told, nets may use fused multiply-adds and boxes may not. */
#if defined(__clang__)
#pragma clang fp contract(fast)
#else
#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast", "no-math-errno", "no-trapping-math")
#endif

#include "net.c"

#if defined(__clang__)
#pragma clang fp contract(off)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off", "no-math-errno")
#endif

#include "cascade.c"
#include "detector.c"

#if defined(__clang__)
#pragma clang fp contract(fast)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast", "no-math-errno", "no-trapping-math")
#endif

#include "kernels.c"

#if !defined(__clang__)
#pragma GCC pop_options
#endif
