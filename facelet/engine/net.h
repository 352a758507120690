/* Nets, and how they run: what cascade.c takes of net.c. */
#ifndef FACELET_NET_H
#define FACELET_NET_H

#include "engine.h"
#include "kernels.h"

#define MOST_INPUTS 4  /* of a layer */
#define MOST_KERNEL 64 /* rows of one */

enum { CONV, POOL, PRELU, ADD, CONCAT, SOFTMAX, SIGMOID, OPERATIONS };
enum { CLS, BBOX, LANDMARK, HEATMAP };

typedef struct {
    int op, inputs, in[MOST_INPUTS]; /* blobs: 0 is the picture, n + 1 what layer n makes */
    int channels, kernel, stride, pad, dilate, depthwise;
    int shared;                            /* conv, last: a kernel's row is one run of floats */
    const float *weights, *bias, *slopes;  /* as the kernels want them; slopes NULL without PReLU */
} Layer;

typedef struct {
    int channels, filled; /* last: floats from pixel to pixel */
    int phases;           /* planar: see kernels.h */
    int margin;           /* last: pixels of zeros before and behind a row */
    int reach;            /* planar: columns past the last that are read */
    int hanging;          /* planar: columns past the last that a pool looks at */
    int ring;             /* rows that are kept */
} Blob;

struct facelet_net {
    const Kernels *kernels;
    uint64_t id; /* no other net in the process has it */
    int size, stride, points, layers, output[FACELET_TASKS];
    Layer *layer;
    Blob *blob; /* layers + 1 */
    float *memory;
};

typedef struct Plan Plan;
typedef void Source(void *context, const Plan *plan, int row, float *out);

typedef struct {
    int height, width, next; /* row to be made */
    ptrdiff_t plane;         /* planar: floats of one */
    size_t row, at;          /* floats of a row; where the ring begins in the plan's floats */
} Map;

/* A net laid out for a size of picture and a number of pictures at a time. */
struct Plan {
    const facelet_net *net;
    uint64_t id;
    int height, width, batch;
    int count; /* of pictures this time, up to `batch` */
    Map *map;
    size_t *table; /* of each layer: where its offsets begin in `offsets` */
    float *floats;
    int32_t *offsets;
    size_t maps_room, floats_room, offsets_room; /* bytes */
    Source *source;
    void *context;
};

FACELET_LOCAL int net_sizes(const facelet_net *net, int height, int width, int *heights, int *widths);
FACELET_LOCAL int plan_for(Plan *plan, const facelet_net *net, int height, int width, int batch);
FACELET_LOCAL void plan_start(Plan *plan, int count, Source *source, void *context);
FACELET_LOCAL const float *plan_row(Plan *plan, int blob, int row); /* makes it if it isn't there */
FACELET_LOCAL void plan_free(Plan *plan);
FACELET_LOCAL size_t plan_bytes(const Plan *plan);
/* From one to the other, numbers below the smallest ordinary float32 are taken for 0. Decay leaves
 * thousands of such weights in channels that a net does not use, and processors are up to a hundred
 * times slower on them. */
static inline uint64_t tiny_off(void)
{
#if defined(__SSE__)
    uint32_t before, mode;
    __asm__ volatile("stmxcsr %0" : "=m"(before));
    mode = before | 0x8040; /* flush to zero, denormals are zeros */
    __asm__ volatile("ldmxcsr %0" : : "m"(mode));
    return before;
#elif defined(__aarch64__)
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | 1 << 24));
    return before;
#else
    return 0;
#endif
}

static inline void tiny_as(uint64_t before)
{
#if defined(__SSE__)
    uint32_t mode = (uint32_t)before;
    __asm__ volatile("ldmxcsr %0" : : "m"(mode));
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
#else
    (void)before;
#endif
}

/* Memory of a size or more, by whole cache lines; zeros where it is new. release() frees it. */
FACELET_LOCAL int room_for(void **memory, size_t *room, size_t wanted);
FACELET_LOCAL void release(void *memory);

/* Where a pixel's channels, or a channel's pixels, are in a row that plan_row() gives. */
static inline size_t last_at(const Plan *plan, int blob, int picture, int column)
{
    const Blob *b = &plan->net->blob[blob];
    const Map *m = &plan->map[blob];
    return ((size_t)picture * (size_t)(m->width + 2 * b->margin) + (size_t)(b->margin + column)) *
           (size_t)b->filled;
}

#endif
