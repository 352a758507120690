/* Inner loops, compiled once for each instruction set (kernels.c). */
#ifndef FACELET_KERNELS_H
#define FACELET_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Of what one file of the engine has and another uses: "static" where all are one file. */
#ifndef FACELET_LOCAL
#define FACELET_LOCAL
#define FACELET_OTHER extern
#endif

/* A layer's work on one row of a map. Layouts of a row:
 *
 * planar, of nets that slide: planes of one channel and of every `phases`-th column, so that what a
 *   stride picks lies side by side; a vector holds neighbouring columns.
 * last, of nets that take crops: a pixel's channels side by side, filled up to whole vectors, and
 *   the rows of all crops of a batch one behind the other; a vector holds channels.
 */
typedef struct {
    const float *const *rows; /* of the input, one a row of the kernel */
    int kernel;               /* rows of it, and columns */
    const int32_t *in;        /* planar: offset of each tap of a kernel's row; last: of each pixel */
    const int32_t *to;        /* last: offset of each pixel of the output */
    int taps;                 /* planar: columns of the kernel x channels; last: floats side by side */
    int runs, run_step;       /* last: such runs of floats in a row of the kernel, and their distance */
    int channels;             /* of the output; last: with what fills it up */
    int count;                /* of columns or pixels to make */
    const float *weights, *bias, *slopes; /* slopes less one, of the PReLU behind it, or NULL */
    float *out;
    ptrdiff_t plane; /* planar: floats from channel to channel in the output */
} Work;

typedef struct {
    const char *name;
    int lanes;
    int block;   /* planar: channels that a convolution makes at a time, at most */
    int vectors; /* last: the same, in vectors */
    void (*planar_conv)(const Work *);
    void (*planar_depthwise)(const Work *);
    void (*planar_pool)(const Work *);
    void (*last_conv)(const Work *);
    void (*last_depthwise)(const Work *);
    void (*last_pool)(const Work *);
    void (*prelu)(const float *in, float *out, const float *slopes, int channels, int count);
    void (*planar_prelu)(const float *in, float *out, float slope, int count);
    void (*add)(const float *one, const float *other, float *out, int count);
    void (*sigmoid)(const float *in, float *out, int count);
    void (*resize_across)(const uint8_t *row, const int32_t *at, const int32_t *part, int count,
                          int16_t *out);
    void (*resize_down)(const int16_t *upper, const int16_t *lower, const int32_t *part, int count,
                        uint8_t *out);
    void (*crop_row)(const uint8_t *upper, const uint8_t *lower, const int32_t *at,
                     const int32_t *part, int down, int count, uint8_t *out);
} Kernels;

/* How many channels a planar convolution makes next, of those that are left. */
static inline int planar_block(const Kernels *kernels, int left)
{
    int block = kernels->block;
    while (block > left) block /= 2;
    return block;
}

/* As many for `last`, in vectors. */
static inline int last_block(const Kernels *kernels, int left)
{
    int block = kernels->vectors;
    while (block > left) block /= 2;
    return block;
}

#endif
