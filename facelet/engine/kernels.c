/* Inner loops in the compiler's own vectors, for the instruction set that this file is compiled for.
 * The library has it several times over, with KERNELS the name of each table. */
#include "kernels.h"

#include <string.h>

/* LANES floats to a vector. As the registers allow: BLOCK channels x 3 sums of the planar
 * convolutions, VECTORS x 6 of the others. */
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define INSTRUCTIONS "avx512"
#define LANES 16
#define BLOCK 8
#define VECTORS 4
#elif defined(__AVX2__) && defined(__FMA__)
#define INSTRUCTIONS "avx2"
#define LANES 8
#define BLOCK 4
#define VECTORS 2
#else
#define INSTRUCTIONS "base"
#define LANES 4
#if defined(__aarch64__)
#define BLOCK 8
#define VECTORS 4
#else
#define BLOCK 4
#define VECTORS 2
#endif
#endif
#ifndef KERNELS
#define KERNELS kernels_base
#endif

#define PIXELS 6 /* of a `last` block */
#define ACROSS 3 /* vectors of a planar block */
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define UNROLL_SOME _Pragma("GCC unroll 4")

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef float Loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Bits __attribute__((vector_size(4 * LANES)));
typedef float Four __attribute__((vector_size(16)));
typedef int32_t FourInts __attribute__((vector_size(16)));
typedef uint8_t FourBytes __attribute__((vector_size(4)));
typedef int16_t FourShorts __attribute__((vector_size(8)));

INLINE Vector load(const float *from) { return *(const Loose *)from; }
INLINE void store(float *to, Vector values) { *(Loose *)to = values; }
INLINE Vector all(float value) { return value - (Vector){0}; }

/* x where it is over 0, else slope x; `less` is slope - 1. */
INLINE Vector prelu(Vector x, Vector less)
{
    Vector negative = (Vector)((Bits)x & (x < 0.0f));
    return x + negative * less;
}

INLINE Vector larger(Vector one, Vector other)
{
    Bits first = one > other;
    return (Vector)(((Bits)one & first) | ((Bits)other & ~first));
}

/* ---- planar ------------------------------------------------------------------------------ */

INLINE void planar_some(const Work *work, const float *weights, int channel, int column, int block,
                        int across)
{
    Vector sums[8][ACROSS];
    UNROLL for (int o = 0; o < block; o++)
        UNROLL for (int x = 0; x < across; x++) sums[o][x] = all(work->bias[channel + o]);
    const int taps = work->taps;
    for (int row = 0; row < work->kernel; row++) {
        const float *in = work->rows[row] + column;
        for (int tap = 0; tap < taps; tap++) {
            const float *from = in + work->in[tap];
            Vector seen[ACROSS];
            UNROLL for (int x = 0; x < across; x++) seen[x] = load(from + x * LANES);
            UNROLL for (int o = 0; o < block; o++)
                UNROLL for (int x = 0; x < across; x++) sums[o][x] += seen[x] * weights[o];
            weights += block;
        }
    }
    float *out = work->out + channel * work->plane + column;
    UNROLL for (int o = 0; o < block; o++) {
        if (work->slopes) {
            Vector less = all(work->slopes[channel + o]);
            UNROLL for (int x = 0; x < across; x++) sums[o][x] = prelu(sums[o][x], less);
        }
        UNROLL for (int x = 0; x < across; x++)
            store(out + o * work->plane + x * LANES, sums[o][x]);
    }
}

INLINE void planar_rows(const Work *work, const float *weights, int channel, int block)
{
    int column = 0;
    for (; work->count - column > 2 * LANES; column += 3 * LANES)
        planar_some(work, weights, channel, column, block, 3);
    if (work->count - column > LANES)
        planar_some(work, weights, channel, column, block, 2);
    else if (work->count > column)
        planar_some(work, weights, channel, column, block, 1);
}

static void planar_conv(const Work *work)
{
    const float *weights = work->weights;
    int channel = 0, block;
    for (; channel < work->channels; channel += block) {
        block = BLOCK;
        while (block > work->channels - channel) block /= 2;
        switch (block) {
#if BLOCK >= 8
        case 8: planar_rows(work, weights, channel, 8); break;
#endif
        case 4: planar_rows(work, weights, channel, 4); break;
        case 2: planar_rows(work, weights, channel, 2); break;
        default: planar_rows(work, weights, channel, 1);
        }
        weights += (ptrdiff_t)block * work->taps * work->kernel;
    }
}

INLINE void depthwise_some(const Work *work, int channel, int column, int kernel, int across)
{
    Vector sums[4];
    UNROLL for (int x = 0; x < across; x++) sums[x] = all(work->bias[channel]);
    const float *weights = work->weights + channel * kernel * kernel;
    UNROLL for (int row = 0; row < kernel; row++) {
        const float *in = work->rows[row] + column;
        UNROLL for (int tap = 0; tap < kernel; tap++) {
            const float *from = in + work->in[channel * kernel + tap];
            Vector weight = all(weights[row * kernel + tap]);
            UNROLL for (int x = 0; x < across; x++) sums[x] += load(from + x * LANES) * weight;
        }
    }
    float *out = work->out + channel * work->plane + column;
    if (work->slopes) {
        Vector less = all(work->slopes[channel]);
        UNROLL for (int x = 0; x < across; x++) sums[x] = prelu(sums[x], less);
    }
    UNROLL for (int x = 0; x < across; x++) store(out + x * LANES, sums[x]);
}

INLINE void depthwise_rows(const Work *work, int kernel)
{
    for (int channel = 0; channel < work->channels; channel++) {
        int column = 0;
        for (; work->count - column > 3 * LANES; column += 4 * LANES)
            depthwise_some(work, channel, column, kernel, 4);
        for (; column < work->count; column += LANES)
            depthwise_some(work, channel, column, kernel, 1);
    }
}

static void planar_depthwise(const Work *work)
{
    if (work->kernel == 3)
        depthwise_rows(work, 3);
    else if (work->kernel == 2)
        depthwise_rows(work, 2);
    else
        depthwise_rows(work, work->kernel);
}

static void planar_pool(const Work *work)
{
    for (int channel = 0; channel < work->channels; channel++)
        for (int column = 0; column < work->count; column += LANES) {
            const int32_t *taps = work->in + channel * work->kernel;
            Vector best = load(work->rows[0] + column + taps[0]);
            for (int row = 0; row < work->kernel; row++)
                for (int tap = 0; tap < work->kernel; tap++)
                    best = larger(load(work->rows[row] + column + taps[tap]), best);
            store(work->out + channel * work->plane + column, best);
        }
}

/* ---- channels last ----------------------------------------------------------------------- */

INLINE void last_some(const Work *work, const float *weights, int channel, int pixel, int pixels,
                      int vectors)
{
    Vector sums[PIXELS][4];
    UNROLL for (int q = 0; q < vectors; q++) {
        Vector bias = load(work->bias + channel + q * LANES);
        UNROLL for (int p = 0; p < pixels; p++) sums[p][q] = bias;
    }
    ptrdiff_t in[PIXELS];
    UNROLL for (int p = 0; p < pixels; p++) in[p] = work->in[pixel + p];
    for (int row = 0; row < work->kernel; row++)
        for (int run = 0; run < work->runs; run++) {
            const float *base = work->rows[row] + (ptrdiff_t)run * work->run_step;
            const float *from[PIXELS];
            UNROLL for (int p = 0; p < pixels; p++) from[p] = base + in[p];
            for (int tap = 0; tap < work->taps; tap++) {
                Vector weight[4];
                UNROLL for (int q = 0; q < vectors; q++) weight[q] = load(weights + q * LANES);
                weights += vectors * LANES;
                UNROLL for (int p = 0; p < pixels; p++)
                    UNROLL for (int q = 0; q < vectors; q++)
                        sums[p][q] += weight[q] * from[p][tap];
            }
        }
    UNROLL for (int q = 0; q < vectors; q++) {
        if (work->slopes) {
            Vector less = load(work->slopes + channel + q * LANES);
            UNROLL for (int p = 0; p < pixels; p++) sums[p][q] = prelu(sums[p][q], less);
        }
        UNROLL for (int p = 0; p < pixels; p++)
            store(work->out + work->to[pixel + p] + channel + q * LANES, sums[p][q]);
    }
}

INLINE void last_pixels(const Work *work, const float *weights, int channel, int vectors)
{
    int pixel = 0;
    for (; work->count - pixel >= PIXELS; pixel += PIXELS)
        last_some(work, weights, channel, pixel, PIXELS, vectors);
    switch (work->count - pixel) {
    case 5: last_some(work, weights, channel, pixel, 5, vectors); break;
    case 4: last_some(work, weights, channel, pixel, 4, vectors); break;
    case 3: last_some(work, weights, channel, pixel, 3, vectors); break;
    case 2: last_some(work, weights, channel, pixel, 2, vectors); break;
    case 1: last_some(work, weights, channel, pixel, 1, vectors); break;
    default: break;
    }
}

static void last_conv(const Work *work)
{
    const float *weights = work->weights;
    int channel = 0, vectors;
    for (; channel < work->channels; channel += vectors * LANES) {
        vectors = VECTORS;
        while (vectors > (work->channels - channel) / LANES) vectors /= 2;
        switch (vectors) {
#if VECTORS >= 4
        case 4: last_pixels(work, weights, channel, 4); break;
#endif
        case 2: last_pixels(work, weights, channel, 2); break;
        default: last_pixels(work, weights, channel, 1);
        }
        weights += (ptrdiff_t)vectors * LANES * work->kernel * work->runs * work->taps;
    }
}

/* A kernel's row has `runs` pixels, `run_step` floats apart. */
INLINE void last_depthwise_some(const Work *work, int channel, int pixel, int kernel, int pixels)
{
    Vector sums[4];
    UNROLL for (int p = 0; p < pixels; p++) sums[p] = load(work->bias + channel);
    const float *weights = work->weights + channel;
    UNROLL for (int row = 0; row < kernel; row++)
        UNROLL for (int tap = 0; tap < kernel; tap++) {
            const float *in = work->rows[row] + (ptrdiff_t)tap * work->run_step + channel;
            Vector weight = load(weights + (row * kernel + tap) * work->channels);
            UNROLL for (int p = 0; p < pixels; p++)
                sums[p] += load(in + work->in[pixel + p]) * weight;
        }
    if (work->slopes) {
        Vector less = load(work->slopes + channel);
        UNROLL for (int p = 0; p < pixels; p++) sums[p] = prelu(sums[p], less);
    }
    UNROLL for (int p = 0; p < pixels; p++)
        store(work->out + work->to[pixel + p] + channel, sums[p]);
}

INLINE void last_depthwise_all(const Work *work, int kernel)
{
    for (int channel = 0; channel < work->channels; channel += LANES) {
        int pixel = 0;
        for (; work->count - pixel >= 4; pixel += 4)
            last_depthwise_some(work, channel, pixel, kernel, 4);
        for (; pixel < work->count; pixel++)
            last_depthwise_some(work, channel, pixel, kernel, 1);
    }
}

static void last_depthwise(const Work *work)
{
    if (work->kernel == 3)
        last_depthwise_all(work, 3);
    else if (work->kernel == 2)
        last_depthwise_all(work, 2);
    else
        last_depthwise_all(work, work->kernel);
}

/* in[pixel] is where a window begins, in[count + pixel] how many of its columns there are: it may
 * hang over the edge. */
static void last_pool(const Work *work)
{
    for (int pixel = 0; pixel < work->count; pixel++)
        for (int channel = 0; channel < work->channels; channel += LANES) {
            ptrdiff_t at = work->in[pixel] + channel;
            Vector best = load(work->rows[0] + at);
            for (int row = 0; row < work->kernel; row++)
                for (int tap = 0; tap < work->in[work->count + pixel]; tap++)
                    best = larger(load(work->rows[row] + at + (ptrdiff_t)tap * work->run_step),
                                  best);
            store(work->out + work->to[pixel] + channel, best);
        }
}

/* ---- element by element ------------------------------------------------------------------ */

static void last_prelu(const float *in, float *out, const float *slopes, int channels, int count)
{
    for (int pixel = 0; pixel < count; pixel++)
        for (int channel = 0; channel < channels; channel += LANES) {
            ptrdiff_t at = (ptrdiff_t)pixel * channels + channel;
            store(out + at, prelu(load(in + at), load(slopes + channel)));
        }
}

static void planar_prelu(const float *in, float *out, float slope, int count)
{
    for (int at = 0; at < count; at += LANES) store(out + at, prelu(load(in + at), all(slope)));
}

static void add(const float *one, const float *other, float *out, int count)
{
    for (int at = 0; at < count; at += LANES) store(out + at, load(one + at) + load(other + at));
}

/* exp(x) = 2^n exp(r), |r| <= ln 2 / 2, where the series has an error of 5e-9 after eight terms. */
INLINE Vector exponential(Vector x)
{
    const Vector most = all(87.0f);
    Bits over = x > most, under = x < -most;
    x = (Vector)(((Bits)most & over) | ((Bits)x & ~over));
    x = (Vector)(((Bits)-most & under) | ((Bits)x & ~under));
    Vector n = x * 1.44269504f + 12582912.0f; /* 1.5 x 2^23: the sum is rounded to a whole number */
    Bits power = ((Bits)n - 0x4B400000 + 127) << 23;
    n = n - 12582912.0f;
    Vector r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    Vector sum = all(1.0f / 5040);
    sum = sum * r + 1.0f / 720;
    sum = sum * r + 1.0f / 120;
    sum = sum * r + 1.0f / 24;
    sum = sum * r + 1.0f / 6;
    sum = sum * r + 0.5f;
    sum = sum * r + 1.0f;
    sum = sum * r + 1.0f;
    return sum * (Vector)power;
}

static void sigmoid(const float *in, float *out, int count)
{
    for (int at = 0; at < count; at += LANES)
        store(out + at, 1.0f / (1.0f + exponential(-load(in + at))));
}

/* ---- resampling, as OpenCV does it ------------------------------------------------------- */

INLINE FourInts four_bytes(const uint8_t *from)
{
    FourBytes bytes;
    memcpy(&bytes, from, 4);
    return __builtin_convertvector(bytes, FourInts);
}

/* Pixels of a row of BGR, each between two with their parts in 2048ths, in 128ths. `at` are bytes; one byte more is read,
 * and one number more written, than a pixel has. */
static void resize_across(const uint8_t *row, const int32_t *at, const int32_t *part, int count,
                          int16_t *out)
{
    UNROLL_SOME for (int x = 0; x < count; x++) {
        FourInts here = four_bytes(row + at[x]), next = four_bytes(row + at[x] + 3);
        FourInts sum = here * part[2 * x] + next * part[2 * x + 1];
        FourShorts made = __builtin_convertvector(sum >> 4, FourShorts);
        memcpy(out + 3 * x, &made, 8);
    }
}

static void resize_down(const int16_t *upper, const int16_t *lower, const int32_t *part, int count,
                        uint8_t *out)
{
    const int16_t first = (int16_t)part[0], second = (int16_t)part[1];
    for (int x = 0; x < count; x++) {
        int16_t one = (int16_t)(((int32_t)upper[x] * first) >> 16);
        int16_t other = (int16_t)(((int32_t)lower[x] * second) >> 16);
        out[x] = (uint8_t)((one + other + 2) >> 2);
    }
}

/* A row of a crop, from four pixels each, in 32nds; `at` are bytes. Reads and writes one byte more
 * than a pixel has. */
static void crop_row(const uint8_t *upper, const uint8_t *lower, const int32_t *at,
                     const int32_t *part, int down, int count, uint8_t *out)
{
    UNROLL_SOME for (int x = 0; x < count; x++) {
        FourInts a = four_bytes(upper + at[x]), b = four_bytes(upper + at[x] + 3);
        FourInts c = four_bytes(lower + at[x]), d = four_bytes(lower + at[x] + 3);
        FourInts above = (a << 5) + (b - a) * part[x], below = (c << 5) + (d - c) * part[x];
        FourInts sum = ((above << 5) + (below - above) * down + 512) >> 10;
        FourBytes made = __builtin_convertvector(sum, FourBytes);
        memcpy(out + 3 * x, &made, 4);
    }
}

FACELET_LOCAL const Kernels KERNELS = {INSTRUCTIONS,   LANES,          BLOCK,     VECTORS,
                         planar_conv,    planar_depthwise, planar_pool, last_conv,
                         last_depthwise, last_pool,      last_prelu, planar_prelu,
                         add,            sigmoid,        resize_across, resize_down,
                         crop_row};
