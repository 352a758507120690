/* Training of a net's layers. This file is compiled once for each instruction set; see trunk.h.
 *
 * A vector holds one value of LANES samples: a group. A map is rows, columns, channels of vectors, its
 * channels filled up to whole BLOCKs. So every loop is over plain vectors with a number for the weight,
 * whatever the channels are, and groups have nothing to do with one another but for batch norms.
 *
 * What stays between forward and backward is a layer's raw values, those before its norm and its
 * activation. What the layer behind it reads is made of them where it is needed, in the cache.
 *
 * A call is a row of events, in phases: within a phase each group goes through all events. Sums over
 * the batch are made by slot, a fixed set of groups, and added up in the order of the slots, so that
 * the number of threads changes nothing. */
#define _GNU_SOURCE
#include "trunk.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#ifndef TABLE
#define TABLE trunk_base
#endif
#define BLOCK 8                      /* outputs made at a time */
#define ACROSS (LANES == 16 ? 3 : 1) /* positions at a time, as the registers allow */
#define TILE 4                       /* gradients of weights: outputs x inputs at a time */
#define SLOTS 16
#define MOST_THREADS 64
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t Bits __attribute__((vector_size(4 * LANES)));

INLINE Vector all(float value) { return value - (Vector){0}; }
INLINE Vector positive(Vector x) { return (Vector)((Bits)x & (x > 0.0f)); }
INLINE float sum(Vector x)
{
    float total = 0;
    for (int lane = 0; lane < LANES; lane++) total += x[lane];
    return total;
}

typedef struct {
    Layer is;
    int read, read_side, step; /* channels and side of its input; vectors from pixel to pixel there */
    int padded;                /* side of its input with what surrounds it */
    int wide, area;            /* channels filled up, positions, of the output */
    int inputs;                /* of an output: channels x kernel x kernel; depthwise kernel x kernel */
    int32_t *taps;             /* of each, vectors from a window's first one; filled up to whole TILEs */
    Vector *raw;               /* of all groups: values before norm and activation */
    int buffer;                /* which one has its gradients */
    int first, last;           /* whether it is the first, or the last, to add to those of its input */
    float *packed, *turned;    /* weights: blocks of outputs; of inputs, a kernel's tap after the other */
    float *bias, *scale, *shift, *mean, *inverse, *slopes, *of_beta, *of_gamma; /* by channel */
    float *sums;               /* (SLOTS, 3, wide): gradients of beta or bias, gamma, slopes */
    double *moments;           /* (SLOTS, 2, wide): mean, squared distances from it */
    float *weights;            /* (SLOTS, weights): their gradients */
    size_t weights_size;
} Part;

typedef struct {
    Vector *input, *around, *wide, *tiles; /* of one group: a padded input; its gradients; sums */
} Scratch;

/* Of a layer's output, [from, to). Layers are gone through in bands of rows, small enough for the
 * cache. */
typedef struct {
    int from, to;
} Rows;
#define BAND (512 << 10) /* bytes of a band's output and input */

/* Gradients, a map of each group, of one layer after the other. */
typedef struct {
    Vector *maps;
    size_t size; /* of a map, the largest */
    int taken;
} Buffer;

typedef struct {
    enum { RAW, COLLECT, SEED, LAYER } what;
    int layer;
} Event;

struct Trunk;
typedef struct {
    struct Trunk *trunk;
    pthread_t thread;
    int number;
} Worker;

struct Trunk {
    int count, channels, side, batch, groups, slots, threads, started;
    float eps, momentum;
    Part *parts;
    Buffer *buffers;
    Event *events;
    Scratch *scratch;
    Worker *workers;
    /* of the call */
    const float *data;
    const float *const *given;
    float *const *made;
    int training, from, to;
    /* of the threads */
    pthread_mutex_t mutex;
    pthread_cond_t start, end;
    int phase, next, busy, stop;
};

static int samples_in(const Trunk *trunk, int group)
{
    const int left = trunk->batch - group * LANES;
    return left < LANES ? left : LANES;
}

/* 1 for the lanes of a group that hold samples. */
static Vector held(const Trunk *trunk, int group)
{
    Vector mask;
    const int samples = samples_in(trunk, group);
    for (int lane = 0; lane < LANES; lane++) mask[lane] = lane < samples;
    return mask;
}

/* ---- convolutions ------------------------------------------------------------------------- */

/* out[p][c] = bias[c] + sum over k of in[p][taps[k]] weights[k][c], or more to what is there. */
INLINE void block_of(const Vector *in, ptrdiff_t in_step, const int32_t *taps, int inputs,
                     const float *weights, const float *bias, Vector *out, ptrdiff_t out_step,
                     int across, int more)
{
    Vector sums[BLOCK][ACROSS];
    UNROLL for (int c = 0; c < BLOCK; c++)
        UNROLL for (int p = 0; p < across; p++)
            sums[c][p] = more ? out[p * out_step + c] : bias ? all(bias[c]) : (Vector){0};
    for (int k = 0; k < inputs; k++, weights += BLOCK) {
        const Vector *from = in + (taps ? taps[k] : k);
        UNROLL for (int p = 0; p < across; p++) {
            const Vector value = from[p * in_step];
            UNROLL for (int c = 0; c < BLOCK; c++) sums[c][p] += value * weights[c];
        }
    }
    UNROLL for (int c = 0; c < BLOCK; c++)
        UNROLL for (int p = 0; p < across; p++) out[p * out_step + c] = sums[c][p];
}

/* The same for `count` positions and all blocks of outputs. */
static void products(const Vector *in, ptrdiff_t in_step, const int32_t *taps, int inputs,
                     const float *weights, const float *bias, Vector *out, ptrdiff_t out_step,
                     int channels, int count, int more)
{
    for (int at = 0; at < count; at += ACROSS, in += ACROSS * in_step, out += ACROSS * out_step) {
        const int across = count - at < ACROSS ? count - at : ACROSS;
        for (int c = 0; c < channels; c += BLOCK) {
            const float *by = weights + (size_t)c * inputs;
            const float *plus = bias ? bias + c : NULL;
#define POSITIONS(n) block_of(in, in_step, taps, inputs, by, plus, out + c, out_step, n, more)
            if (across == ACROSS) POSITIONS(ACROSS);
            else for (int p = 0; p < across; p++)
                block_of(in + p * in_step, 0, taps, inputs, by, plus, out + p * out_step + c, 0, 1,
                         more);
        }
    }
}

static void convolution(const Part *part, Rows rows, const Vector *in, Vector *out)
{
    const ptrdiff_t step = (ptrdiff_t)part->is.stride * part->step;
    for (int y = rows.from; y < rows.to; y++)
        products(in + (ptrdiff_t)y * part->padded * step, step, part->taps, part->inputs,
                 part->packed, part->bias, out + (ptrdiff_t)y * part->is.side * part->wide,
                 part->wide, part->wide, part->is.side, 0);
}

/* Gradients of its input, added up in `back`, a padded map of them. */
static void convolution_back(const Part *part, Rows rows, const Vector *gradients, Vector *back,
                             int more)
{
    const ptrdiff_t step = (ptrdiff_t)part->is.stride * part->step;
    const int kernel = part->is.kernel * part->is.kernel;
    for (int y = rows.from; y < rows.to; y++)
        for (int k = 0; k < kernel; k++)
            products(gradients + (ptrdiff_t)y * part->is.side * part->wide, part->wide, NULL,
                     part->is.channels,
                     part->turned + (size_t)k * part->is.channels * part->step, NULL,
                     back + (ptrdiff_t)y * part->padded * step + part->taps[k * part->read], step,
                     part->step, part->is.side, more);
}

/* x[0][i] = the sum of the lanes of x[i]. */
INLINE void sum_lanes(Vector *x)
{
#if LANES == 16 && (defined(__clang__) || __GNUC__ >= 12)
#define PAIRS(a, b) \
    (__builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) + \
     __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31))
    UNROLL for (int n = 16; n > 1; n /= 2)
        UNROLL for (int i = 0; i < n / 2; i++) x[i] = PAIRS(x[2 * i], x[2 * i + 1]);
#else
    Vector total;
    for (int i = 0; i < LANES; i++) total[i] = sum(x[i]);
    x[0] = total;
#endif
}

/* totals[i] = the sum of the lanes of x[i], which are lost. */
INLINE void sum_all(Vector *x, float *totals)
{
    UNROLL for (int i = 0; i < TILE * TILE; i += LANES) {
        sum_lanes(x + i);
        memcpy(totals + i, x + i, sizeof(Vector));
    }
}

/* weights[c][k] += the sum over samples and positions of in[taps[k]] gradients[c]. What rows before
 * have added up is in `tiles`, and is left there unless these are the last. */
static void convolution_weights(const Part *part, Rows rows, const Vector *in,
                                const Vector *gradients, Vector *tiles, float *weights)
{
    const int wide = part->wide, inputs = part->inputs, side = part->is.side;
    const ptrdiff_t step = (ptrdiff_t)part->is.stride * part->step;
    for (int c = 0; c < part->is.channels; c += TILE)
        for (int k = 0; k < inputs; k += TILE, tiles += TILE * TILE) {
            Vector sums[TILE * TILE];
            UNROLL for (int i = 0; i < TILE * TILE; i++) sums[i] = rows.from ? tiles[i] : (Vector){0};
            const int32_t *tap = part->taps + k;
            const Vector *from_c = gradients + (ptrdiff_t)rows.from * side * wide + c;
            for (int y = rows.from; y < rows.to; y++) {
                const Vector *from = in + (ptrdiff_t)y * part->padded * step;
                for (int x = 0; x < side; x++, from += step, from_c += wide)
                    UNROLL for (int j = 0; j < TILE; j++) {
                        const Vector value = from[tap[j]];
                        UNROLL for (int i = 0; i < TILE; i++) sums[i * TILE + j] += value * from_c[i];
                    }
            }
            if (rows.to < side) {
                UNROLL for (int i = 0; i < TILE * TILE; i++) tiles[i] = sums[i];
                continue;
            }
            float totals[TILE * TILE];
            sum_all(sums, totals);
            for (int i = 0; i < TILE && c + i < part->is.channels; i++)
                for (int j = 0; j < TILE && k + j < inputs; j++)
                    weights[(size_t)(c + i) * inputs + k + j] += totals[i * TILE + j];
        }
}

/* Depthwise: an output's inputs are its own channel's. */
INLINE void depthwise_of(const Part *part, Rows rows, const Vector *in, Vector *out, int inputs)
{
    const int wide = part->wide, side = part->is.side;
    const int32_t *taps = part->taps;
    out += (ptrdiff_t)rows.from * side * wide;
    for (int y = rows.from; y < rows.to; y++)
        for (int x = 0; x < side; x++, out += wide) {
            const Vector *from = in + ((ptrdiff_t)y * part->padded + x) * part->is.stride * wide;
            for (int c = 0; c < wide; c++) {
                Vector total = all(part->bias[c]);
                UNROLL for (int k = 0; k < inputs; k++)
                    total += from[taps[k] + c] * part->packed[k * wide + c];
                out[c] = total;
            }
        }
}

/* Gradients of weights (inputs, wide) in `sums`; of its input, added up in `back`, unless NULL. */
INLINE void depthwise_back_of(const Part *part, Rows rows, const Vector *in,
                              const Vector *gradients, Vector *back, Vector *sums, int inputs)
{
    const int wide = part->wide, side = part->is.side;
    const ptrdiff_t step = (ptrdiff_t)part->is.stride * wide;
    const int32_t *taps = part->taps;
    for (int y = rows.from; y < rows.to; y++)
        for (int c = 0; c < wide; c++) {
            Vector total[9];
            UNROLL for (int k = 0; k < inputs; k++) total[k] = sums[k * wide + c];
            ptrdiff_t at = (ptrdiff_t)y * part->padded * step + c;
            const Vector *gradient = gradients + (ptrdiff_t)y * side * wide + c;
            for (int x = 0; x < side; x++, at += step, gradient += wide) {
                const Vector by = *gradient;
                UNROLL for (int k = 0; k < inputs; k++) {
                    total[k] += by * in[at + taps[k]];
                    if (back) back[at + taps[k]] += by * part->packed[k * wide + c];
                }
            }
            UNROLL for (int k = 0; k < inputs; k++) sums[k * wide + c] = total[k];
        }
}

static void depthwise(const Part *part, Rows rows, const Vector *in, Vector *out)
{
    switch (part->inputs) {
    case 9: depthwise_of(part, rows, in, out, 9); break;
    case 4: depthwise_of(part, rows, in, out, 4); break;
    default: depthwise_of(part, rows, in, out, 1); break;
    }
}

static void depthwise_back(const Part *part, Rows rows, const Vector *in, const Vector *gradients,
                           Vector *back, Vector *sums, float *weights)
{
    if (!rows.from) memset(sums, 0, sizeof(Vector) * part->inputs * part->wide);
    switch (part->inputs) {
    case 9: depthwise_back_of(part, rows, in, gradients, back, sums, 9); break;
    case 4: depthwise_back_of(part, rows, in, gradients, back, sums, 4); break;
    default: depthwise_back_of(part, rows, in, gradients, back, sums, 1); break;
    }
    for (int k = 0; rows.to == part->is.side && k < part->inputs; k++)
        for (int c = 0; c < part->is.channels; c++)
            weights[c * part->inputs + k] += sum(sums[k * part->wide + c]);
}

/* ---- pooling: the largest value; windows may hang over the far edges ----------------------- */

static void pool(const Part *part, Rows rows, const Vector *in, Vector *out)
{
    const int wide = part->wide, side = part->is.side, kernel = part->is.kernel;
    out += (ptrdiff_t)rows.from * side * wide;
    for (int y = rows.from; y < rows.to; y++)
        for (int x = 0; x < side; x++, out += wide)
            for (int c = 0; c < wide; c++) {
                const int top = y * part->is.stride, left = x * part->is.stride;
                Vector most = in[((ptrdiff_t)top * part->padded + left) * wide + c];
                for (int v = top; v < top + kernel && v < part->padded; v++)
                    for (int u = left; u < left + kernel && u < part->padded; u++) {
                        const Vector value = in[((ptrdiff_t)v * part->padded + u) * wide + c];
                        const Bits larger = value > most;
                        most = (Vector)(((Bits)value & larger) | ((Bits)most & ~larger));
                    }
                out[c] = most;
            }
}

/* The first of the largest gets the gradient. */
static void pool_back(const Part *part, Rows rows, const Vector *in, const Vector *out,
                      const Vector *gradients, Vector *back)
{
    const int wide = part->wide, side = part->is.side, kernel = part->is.kernel;
    out += (ptrdiff_t)rows.from * side * wide;
    gradients += (ptrdiff_t)rows.from * side * wide;
    for (int y = rows.from; y < rows.to; y++)
        for (int x = 0; x < side; x++, out += wide, gradients += wide)
            for (int c = 0; c < wide; c++) {
                Bits left_over = ~(Bits){0};
                const int top = y * part->is.stride, left = x * part->is.stride;
                for (int v = top; v < top + kernel && v < part->padded; v++)
                    for (int u = left; u < left + kernel && u < part->padded; u++) {
                        const ptrdiff_t at = ((ptrdiff_t)v * part->padded + u) * wide + c;
                        const Bits chosen = (in[at] == out[c]) & left_over;
                        back[at] += (Vector)((Bits)gradients[c] & chosen);
                        left_over &= ~chosen;
                    }
            }
}

/* ---- norms and activations ---------------------------------------------------------------- */

INLINE Vector activated(int activation, Vector value, float slope)
{
    if (activation == PLAIN) return value;
    const Vector over = positive(value);
    return activation == RELU ? over : over + (value - over) * slope;
}

INLINE void activate_as(const Part *part, const Vector *raw, Vector *out, int activation)
{
    for (int c = 0; c < part->wide; c++)
        out[c] = activated(activation, raw[c] * part->scale[c] + part->shift[c], part->slopes[c]);
}

static void activate(const Part *part, const Vector *raw, Vector *out)
{
    if (part->is.activation == PRELU) activate_as(part, raw, out, PRELU);
    else if (part->is.activation == RELU) activate_as(part, raw, out, RELU);
    else activate_as(part, raw, out, PLAIN);
}

static Vector *raw_of(const Part *part, int group)
{
    return part->raw + (ptrdiff_t)group * part->area * part->wide;
}

static Vector *back_of(const Trunk *trunk, const Part *part, int group)
{
    const Buffer *buffer = trunk->buffers + part->buffer;
    return buffer->maps + group * buffer->size;
}

/* Rows of a layer's padded input that it takes to make its rows up to `to`. */
static int rows_read(const Part *part, int to)
{
    const int last = (to - 1) * part->is.stride + (part->is.kernel - 1) * part->is.dilate + 1;
    return to == part->is.side || last > part->padded ? part->padded : last;
}

/* What a layer reads, padded with zeros, its rows [from, to): the picture, or the values behind the
 * activation of the layer before it. */
static const Vector *input_of(const Trunk *trunk, const Part *part, int group, int from, int to,
                              Vector *made)
{
    const int pad = part->is.pad, side = part->read_side, padded = part->padded, step = part->step;
    const Part *before = part->is.input < 0 ? NULL : trunk->parts + part->is.input;
    if (before && !pad && !before->is.norm && before->is.activation == PLAIN)
        return raw_of(before, group);
    if (pad)
        memset(made + (ptrdiff_t)from * padded * step, 0,
               sizeof(Vector) * (to - from) * padded * step);
    const int first = from < pad ? 0 : from - pad, end = to - pad < side ? to - pad : side;
    const int samples = samples_in(trunk, group);
    const size_t plane = (size_t)side * side;
    for (int y = first; y < end; y++) {
        Vector *row = made + ((ptrdiff_t)(y + pad) * padded + pad) * step;
        if (before) {
            const Vector *raw = raw_of(before, group) + (ptrdiff_t)y * side * step;
            for (int x = 0; x < side; x++, raw += step, row += step) activate(before, raw, row);
            continue;
        }
        for (int lane = 0; lane < LANES; lane++)
            for (int c = 0; c < step; c++) {
                const float *pixels =
                    trunk->data + (((size_t)group * LANES + lane) * step + c) * plane + y * side;
                float *to = (float *)(row + c) + lane;
                for (int x = 0; x < side; x++)
                    to[(ptrdiff_t)x * step * LANES] = lane < samples ? pixels[x] : 0;
            }
    }
    return made;
}

/* Takes rows of a group into the mean and the squared distances from it of a slot. */
static void take_moments(const Trunk *trunk, const Part *part, Rows rows, int group)
{
    const int wide = part->wide, side = part->is.side, count = (rows.to - rows.from) * side;
    const Vector *raw = raw_of(part, group) + (ptrdiff_t)rows.from * side * wide;
    const Vector mask = held(trunk, group);
    double *means = part->moments + (size_t)(group % trunk->slots) * 2 * wide;
    double *squares = means + wide;
    if (group < trunk->slots && !rows.from) memset(means, 0, sizeof(double) * 2 * wide);
    const int samples = samples_in(trunk, group);
    const double new = (double)count * samples;
    const double old = (double)(group / trunk->slots) * part->area * LANES +
                       (double)rows.from * side * samples;
    for (int c = 0; c < wide; c += 4) {
        Vector total[TILE * TILE] = {0}, middle[4];
        float sums[TILE * TILE];
        for (int p = 0; p < count; p++)
            UNROLL for (int i = 0; i < 4; i++) total[i] += raw[(ptrdiff_t)p * wide + c + i];
        UNROLL for (int i = 0; i < 4; i++) total[i] *= mask;
        sum_all(total, sums);
        double mean[4];
        UNROLL for (int i = 0; i < 4; i++) {
            mean[i] = sums[i] / new;
            middle[i] = all(mean[i]);
        }
        memset(total, 0, sizeof total);
        for (int p = 0; p < count; p++)
            UNROLL for (int i = 0; i < 4; i++) {
                const Vector off = raw[(ptrdiff_t)p * wide + c + i] - middle[i];
                total[i] += off * off;
            }
        UNROLL for (int i = 0; i < 4; i++) total[i] *= mask;
        sum_all(total, sums);
        for (int i = 0; i < 4; i++) {
            const double apart = mean[i] - means[c + i];
            means[c + i] += apart * new / (old + new);
            squares[c + i] += sums[i] + apart * apart * old * new / (old + new);
        }
    }
}

/* The moments of the batch, out of those of the slots. */
static void set_norm(const Trunk *trunk, const Part *part, const float *gamma, const float *beta,
                     const States *states)
{
    for (int c = 0; c < part->is.channels; c++) {
        double mean = states->mean[c], variance = states->variance[c];
        if (trunk->training) {
            double number = 0, squares = 0;
            mean = 0;
            for (int slot = 0; slot < trunk->slots; slot++) {
                double new = 0;
                for (int group = slot; group < trunk->groups; group += trunk->slots)
                    new += (double)part->area * samples_in(trunk, group);
                const double *of = part->moments + (size_t)slot * 2 * part->wide + c;
                const double apart = of[0] - mean;
                mean += apart * new / (number + new);
                squares += of[part->wide] + apart * apart * number * new / (number + new);
                number += new;
            }
            variance = squares / number;
            const double keep = trunk->momentum;
            states->mean[c] = keep * states->mean[c] + (1 - keep) * mean;
            states->variance[c] = keep * states->variance[c] + (1 - keep) * variance;
        }
        const double inverse = 1 / sqrt(variance + trunk->eps);
        part->mean[c] = mean;
        part->inverse[c] = inverse;
        part->scale[c] = gamma[c] * inverse;
        part->shift[c] = beta[c] - gamma[c] * inverse * mean;
    }
}

/* Gradients behind an activation become those before it; sums for the norm or the bias, the slopes. */
INLINE void activation_back_as(const Part *part, int count, const Vector *raw, Vector *back,
                               float *sums, int activation, int norm)
{
    const int wide = part->wide;
    for (int c = 0; c < wide; c += 4) {
        Vector total[TILE * TILE] = {0}, *by_value = total + 4, *of_slope = total + 8;
        for (int p = 0; p < count; p++)
            UNROLL for (int i = 0; i < 4; i++) {
                const ptrdiff_t at = (ptrdiff_t)p * wide + c + i;
                const Vector was = raw[at];
                Vector gradient = back[at];
                if (activation != PLAIN) {
                    const Vector value = was * part->scale[c + i] + part->shift[c + i];
                    const Bits over = value > 0.0f;
                    const Vector below = (Vector)((Bits)gradient & ~over);
                    gradient = (Vector)((Bits)gradient & over);
                    if (activation == PRELU) {
                        of_slope[i] += below * value;
                        gradient += below * part->slopes[c + i];
                    }
                    back[at] = gradient;
                }
                total[i] += gradient;
                if (norm) by_value[i] += gradient * (was - part->mean[c + i]);
            }
        float totals[TILE * TILE];
        sum_all(total, totals);
        for (int i = 0; i < 4; i++) {
            sums[c + i] += totals[i];
            sums[wide + c + i] += totals[4 + i] * part->inverse[c + i];
            sums[2 * wide + c + i] += totals[8 + i];
        }
    }
}

static void activation_back(const Trunk *trunk, const Part *part, Rows rows, int group)
{
    const int count = (rows.to - rows.from) * part->is.side;
    const ptrdiff_t at = (ptrdiff_t)rows.from * part->is.side * part->wide;
    const Vector *raw = raw_of(part, group) + at;
    Vector *back = back_of(trunk, part, group) + at;
    float *sums = part->sums + (size_t)(group % trunk->slots) * 3 * part->wide;
    if (group < trunk->slots && !rows.from) memset(sums, 0, sizeof(float) * 3 * part->wide);
#define AS(activation, norm) activation_back_as(part, count, raw, back, sums, activation, norm)
    switch (part->is.activation * 2 + part->is.norm) {
    case PRELU * 2 + 1: AS(PRELU, 1); break;
    case PRELU * 2: AS(PRELU, 0); break;
    case RELU * 2 + 1: AS(RELU, 1); break;
    case RELU * 2: AS(RELU, 0); break;
    case PLAIN * 2 + 1: AS(PLAIN, 1); break;
    default: AS(PLAIN, 0);
    }
#undef AS
}

/* Gradients behind a batch norm become those before it. */
static void norm_back(const Trunk *trunk, const Part *part, Rows rows, int group)
{
    const ptrdiff_t at = (ptrdiff_t)rows.from * part->is.side * part->wide;
    const Vector *raw = raw_of(part, group) + at, mask = held(trunk, group);
    Vector *back = back_of(trunk, part, group) + at;
    for (int p = (rows.to - rows.from) * part->is.side; p > 0; p--)
        for (int c = 0; c < part->wide; c++, raw++, back++)
            *back = (*back - (*raw * part->of_gamma[c] + part->of_beta[c])) * (mask * part->scale[c]);
}

/* ---- events ------------------------------------------------------------------------------- */

/* The next rows of a layer, behind `done`. */
static Rows band(const Part *part, int done)
{
    const size_t row = sizeof(Vector) * ((size_t)part->is.side * part->wide +
                                         (size_t)part->is.stride * part->padded * part->step);
    const int rows = BAND / row > 1 ? BAND / row : 1;
    return (Rows){done, part->is.side - done < rows ? part->is.side : done + rows};
}

static void layer_forward(const Trunk *trunk, const Part *part, int group, const Scratch *scratch)
{
    Vector *raw = raw_of(part, group);
    for (Rows rows = band(part, 0), read = {0, 0}; rows.from < part->is.side;
         rows = band(part, rows.to)) {
        read = (Rows){read.to, rows_read(part, rows.to)};
        const Vector *in = input_of(trunk, part, group, read.from, read.to, scratch->input);
        if (part->is.op == CONV) convolution(part, rows, in, raw);
        else if (part->is.op == DEPTHWISE) depthwise(part, rows, in, raw);
        else pool(part, rows, in, raw);
        if (part->is.norm && trunk->training) take_moments(trunk, part, rows, group);
    }
}

/* From gradients behind a layer's norm to those of its weights and its input; where no other layer
 * adds to these, back through the activation that made the input. */
static void layer_back(const Trunk *trunk, const Part *part, int group, const Scratch *scratch)
{
    const int pad = part->is.pad, step = part->step, side = part->read_side;
    const size_t row = (size_t)part->padded * step;
    Vector *gradients = back_of(trunk, part, group);
    float *weights = part->weights + (group % trunk->slots) * part->weights_size;
    if (group < trunk->slots) memset(weights, 0, sizeof(float) * part->weights_size);
    const Part *before = part->is.input < 0 ? NULL : trunk->parts + part->is.input;
    /* Gradients of the input: where they are kept, or with what surrounds them first. */
    Vector *kept = before ? back_of(trunk, before, group) : NULL;
    Vector *back = kept && pad ? scratch->around : kept;
    const int whole = part->is.op == CONV && part->is.kernel == 1 && part->is.stride == 1 && !pad;
    int final = 0; /* rows of the input whose gradients are all there */
    for (Rows rows = band(part, 0), read = {0, 0}; rows.from < part->is.side;
         rows = band(part, rows.to)) {
        if (part->is.norm) norm_back(trunk, part, rows, group);
        read = (Rows){read.to, rows_read(part, rows.to)};
        const Vector *in = input_of(trunk, part, group, read.from, read.to, scratch->input);
        if (back && (pad || (part->first && !whole)))
            memset(back + read.from * row, 0, sizeof(Vector) * (read.to - read.from) * row);
        switch (part->is.op) {
        case CONV:
            convolution_weights(part, rows, in, gradients, scratch->tiles, weights);
            if (back) convolution_back(part, rows, gradients, back, !(whole && part->first));
            break;
        case DEPTHWISE:
            depthwise_back(part, rows, in, gradients, back, scratch->wide, weights);
            break;
        default:
            if (back) pool_back(part, rows, in, raw_of(part, group), gradients, back);
        }
        if (!kept) continue;
        int end = rows.to * part->is.stride - pad;
        end = rows.to == part->is.side || end > side ? side : end;
        if (end <= final) continue;
        for (int y = final; pad && y < end; y++) {
            const Vector *from = back + ((ptrdiff_t)(y + pad) * part->padded + pad) * step;
            Vector *to = kept + (ptrdiff_t)y * side * step;
            for (int i = 0; i < side * step; i++) to[i] = part->first ? from[i] : to[i] + from[i];
        }
        if (part->last) activation_back(trunk, before, (Rows){final, end}, group);
        final = end;
    }
}

static void happen(const Trunk *trunk, Event event, int group, const Scratch *scratch)
{
    const Part *part = trunk->parts + event.layer;
    const int samples = samples_in(trunk, group), channels = part->is.channels;
    const size_t at = (size_t)group * LANES * channels;
    switch (event.what) {
    case RAW: layer_forward(trunk, part, group, scratch); break;
    case COLLECT:
        activate(part, raw_of(part, group), scratch->wide);
        for (int lane = 0; lane < samples; lane++)
            for (int c = 0; c < channels; c++)
                trunk->made[part->is.output - 1][at + lane * channels + c] = scratch->wide[c][lane];
        break;
    case SEED: {
        Vector *back = back_of(trunk, part, group);
        memset(back, 0, sizeof(Vector) * part->wide);
        for (int lane = 0; lane < samples; lane++)
            for (int c = 0; c < channels; c++)
                back[c][lane] = trunk->given[part->is.output - 1][at + lane * channels + c];
        activation_back(trunk, part, (Rows){0, 1}, group);
        break;
    }
    case LAYER: layer_back(trunk, part, group, scratch); break;
    }
}

/* Numbers too small for a float's full precision, which decay makes of weights that nothing needs,
 * count as 0 from here on: processors take a hundred times as long for them. Returns what `restore`
 * takes. */
static unsigned flush_small(void)
{
    unsigned before = 0;
#if defined(__SSE__)
    before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | 0x8040);
#elif defined(__aarch64__)
    uint64_t state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    before = (unsigned)state;
    __asm__ volatile("msr fpcr, %0" : : "r"(state | 1 << 24));
#endif
    return before;
}

static void restore(unsigned before)
{
#if defined(__SSE__)
    __builtin_ia32_ldmxcsr(before);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)before));
#else
    (void)before;
#endif
}

/* Goes through the slots that nobody has taken. */
static void work(Trunk *trunk, int number)
{
    const unsigned before = flush_small();
    for (;;) {
        const int slot = __atomic_fetch_add(&trunk->next, 1, __ATOMIC_RELAXED);
        if (slot >= trunk->slots) {
            restore(before);
            return;
        }
        for (int group = slot; group < trunk->groups; group += trunk->slots)
            for (int event = trunk->from; event < trunk->to; event++)
                happen(trunk, trunk->events[event], group, trunk->scratch + number);
    }
}

static void *worker(void *argument)
{
    Worker *self = argument;
    Trunk *trunk = self->trunk;
    for (int phase = 1;; phase++) {
        pthread_mutex_lock(&trunk->mutex);
        while (trunk->phase < phase && !trunk->stop) pthread_cond_wait(&trunk->start, &trunk->mutex);
        const int stop = trunk->stop;
        pthread_mutex_unlock(&trunk->mutex);
        if (stop) return NULL;
        work(trunk, self->number);
        pthread_mutex_lock(&trunk->mutex);
        if (!--trunk->busy) pthread_cond_signal(&trunk->end);
        pthread_mutex_unlock(&trunk->mutex);
    }
}

/* Runs events [from, to) on all groups. */
static void run_phase(Trunk *trunk, int from, int to)
{
    pthread_mutex_lock(&trunk->mutex);
    trunk->from = from;
    trunk->to = to;
    trunk->next = 0;
    trunk->busy = trunk->started;
    trunk->phase++;
    pthread_cond_broadcast(&trunk->start);
    pthread_mutex_unlock(&trunk->mutex);
    work(trunk, 0);
    pthread_mutex_lock(&trunk->mutex);
    while (trunk->busy) pthread_cond_wait(&trunk->end, &trunk->mutex);
    pthread_mutex_unlock(&trunk->mutex);
}

/* ---- weights ------------------------------------------------------------------------------- */

/* Where the weight of output c and input k (tap, channel) stands in MXNet's array. */
static size_t place(const Part *part, int c, int k)
{
    const int kernel = part->is.kernel * part->is.kernel;
    if (part->is.op == DEPTHWISE) return (size_t)c * kernel + k;
    return ((size_t)c * part->read + k % part->read) * kernel + k / part->read;
}

static void pack(const Part *part, const Parameters *given)
{
    const int channels = part->is.channels, inputs = part->inputs;
    for (int c = 0; c < channels; c++) {
        if (part->is.op != POOL) part->bias[c] = given->bias ? given->bias[c] : 0;
        part->slopes[c] = given->slopes ? given->slopes[c] : 0;
        if (!part->is.norm) part->scale[c] = 1;
    }
    if (part->is.op == POOL) return;
    for (int c = 0; c < channels; c++)
        for (int k = 0; k < inputs; k++) {
            const float weight = given->weight[place(part, c, k)];
            if (part->is.op == DEPTHWISE) {
                part->packed[k * part->wide + c] = weight;
                continue;
            }
            part->packed[((size_t)(c / BLOCK) * inputs + k) * BLOCK + c % BLOCK] = weight;
            if (!part->turned) continue;
            const int tap = k / part->read, from = k % part->read;
            part->turned[(((size_t)tap * part->step / BLOCK + from / BLOCK) * channels + c) * BLOCK +
                         from % BLOCK] = weight;
        }
}

static float total_of(const Trunk *trunk, const float *of, size_t apart)
{
    float total = 0;
    for (int slot = 0; slot < trunk->slots; slot++) total += of[slot * apart];
    return total;
}

/* ---- calls --------------------------------------------------------------------------------- */

static int forward(Trunk *trunk, const float *data, const Parameters *parameters,
                   const States *states, float *const *outputs, int training)
{
    trunk->data = data;
    trunk->made = outputs;
    trunk->training = training;
    int event = 0, begun = 0;
    for (int i = 0; i < trunk->count; i++) {
        const Part *part = trunk->parts + i;
        pack(part, parameters + i);
        trunk->events[event++] = (Event){RAW, i};
        if (!part->is.norm) continue;
        if (training) {
            run_phase(trunk, begun, event);
            begun = event;
        }
        set_norm(trunk, part, parameters[i].gamma, parameters[i].beta, states + i);
    }
    for (int i = 0; i < trunk->count; i++)
        if (trunk->parts[i].is.output) trunk->events[event++] = (Event){COLLECT, i};
    run_phase(trunk, begun, event);
    return 0;
}

static int backward(Trunk *trunk, const float *data, const float *const *outputs,
                    const Parameters *gradients)
{
    trunk->data = data;
    trunk->given = outputs;
    int event = 0, begun = 0;
    for (int i = 0; i < trunk->count; i++)
        if (trunk->parts[i].is.output) trunk->events[event++] = (Event){SEED, i};
    for (int i = trunk->count - 1; i >= 0; i--) {
        const Part *part = trunk->parts + i;
        if (part->is.norm) {
            run_phase(trunk, begun, event);
            begun = event;
            /* As norm_back wants them: of a value, and beside it. */
            const float number = (float)part->area * trunk->batch;
            for (int c = 0; c < part->is.channels; c++) {
                const float *sums = part->sums + c;
                const size_t apart = 3 * (size_t)part->wide;
                const float slope = part->inverse[c] * total_of(trunk, sums + part->wide, apart) / number;
                part->of_gamma[c] = slope;
                part->of_beta[c] = total_of(trunk, sums, apart) / number - part->mean[c] * slope;
            }
        }
        trunk->events[event++] = (Event){LAYER, i};
    }
    run_phase(trunk, begun, event);
    for (int i = 0; i < trunk->count; i++) {
        const Part *part = trunk->parts + i;
        const Parameters *to = gradients + i;
        for (int c = 0; c < part->is.channels; c++) {
            const float *sums = part->sums + c;
            const size_t apart = 3 * (size_t)part->wide;
            /* A batch norm takes away whatever the bias before it adds. */
            if (to->bias) to->bias[c] = part->is.norm ? 0 : total_of(trunk, sums, apart);
            if (to->beta) to->beta[c] = total_of(trunk, sums, apart);
            if (to->gamma) to->gamma[c] = total_of(trunk, sums + part->wide, apart);
            if (to->slopes) to->slopes[c] = total_of(trunk, sums + 2 * part->wide, apart);
            for (int k = 0; to->weight && k < part->inputs; k++)
                to->weight[place(part, c, k)] = total_of(
                    trunk, part->weights + (size_t)c * part->inputs + k, part->weights_size);
        }
    }
    return 0;
}

static void *room(size_t number, size_t size)
{
    void *made = NULL;
    const size_t bytes = (number * size + 63) / 64 * 64;
    if (posix_memalign(&made, 64, bytes ? bytes : 64)) return NULL;
    return memset(made, 0, bytes);
}

static void release(Trunk *trunk)
{
    if (!trunk) return;
    pthread_mutex_lock(&trunk->mutex);
    trunk->stop = 1;
    pthread_cond_broadcast(&trunk->start);
    pthread_mutex_unlock(&trunk->mutex);
    for (int i = 0; i < trunk->started; i++) pthread_join(trunk->workers[i].thread, NULL);
    for (int i = 0; trunk->parts && i < trunk->count; i++) {
        Part *part = trunk->parts + i;
        free(part->taps);
        free(part->raw);
        free(part->packed);
        free(part->turned);
        free(part->bias);
        free(part->sums);
        free(part->moments);
        free(part->weights);
    }
    for (int i = 0; trunk->buffers && i < trunk->count; i++) free(trunk->buffers[i].maps);
    for (int i = 0; trunk->scratch && i < trunk->threads; i++) {
        free(trunk->scratch[i].input);
        free(trunk->scratch[i].around);
        free(trunk->scratch[i].wide);
        free(trunk->scratch[i].tiles);
    }
    pthread_mutex_destroy(&trunk->mutex);
    pthread_cond_destroy(&trunk->start);
    pthread_cond_destroy(&trunk->end);
    free(trunk->parts);
    free(trunk->buffers);
    free(trunk->events);
    free(trunk->scratch);
    free(trunk->workers);
    free(trunk);
}

static int prepare(Trunk *trunk, Part *part)
{
    const Layer *is = &part->is;
    const Part *before = is->input < 0 ? NULL : trunk->parts + is->input;
    part->read = before ? before->is.channels : trunk->channels;
    part->step = before ? before->wide : trunk->channels;
    part->read_side = before ? before->is.side : trunk->side;
    part->padded = part->read_side + 2 * is->pad;
    part->wide = (is->channels + BLOCK - 1) / BLOCK * BLOCK;
    part->area = is->side * is->side;
    const int kernel = is->kernel * is->kernel;
    part->inputs = is->op == POOL ? 0 : is->op == DEPTHWISE ? kernel : part->read * kernel;
    part->taps = room(part->inputs + TILE, sizeof(int32_t));
    part->raw = room((size_t)trunk->groups * part->area * part->wide, sizeof(Vector));
    const size_t weights = (size_t)part->wide * part->inputs;
    part->weights_size = weights;
    part->packed = room(weights, sizeof(float));
    part->turned = is->op == CONV && before ? room((size_t)kernel * part->step * is->channels, sizeof(float)) : NULL;
    part->bias = room(8 * (size_t)part->wide, sizeof(float));
    part->sums = room((size_t)SLOTS * 3 * part->wide, sizeof(float));
    part->moments = room((size_t)SLOTS * 2 * part->wide, sizeof(double));
    part->weights = room(SLOTS * weights, sizeof(float));
    if (!part->taps || !part->raw || !part->packed || !part->bias || !part->sums || !part->moments ||
        !part->weights || (is->op == CONV && before && !part->turned))
        return 0;
    float **arrays[] = {&part->scale, &part->shift, &part->mean, &part->inverse,
                        &part->slopes, &part->of_beta, &part->of_gamma};
    for (int i = 0; i < 7; i++) *arrays[i] = part->bias + (size_t)(i + 1) * part->wide;
    const int many = is->op == DEPTHWISE ? 1 : part->read;
    for (int k = 0; k < part->inputs; k++) {
        const int tap = k / many, y = tap / is->kernel * is->dilate, x = tap % is->kernel * is->dilate;
        part->taps[k] = (y * part->padded + x) * part->step + k % many;
    }
    return 1;
}

/* Gives a layer the free buffer that fits its gradients best. */
static void take_buffer(const Trunk *trunk, Part *part)
{
    const size_t size = (size_t)part->area * part->wide;
    int best = -1;
    for (int b = 0; b < trunk->count; b++) {
        if (trunk->buffers[b].taken) continue;
        const size_t one = trunk->buffers[b].size, other = best < 0 ? 0 : trunk->buffers[best].size;
        const int fits = one >= size, fitted = other >= size;
        if (best < 0 || (fits == fitted ? fits == (one < other) : fits)) best = b;
    }
    Buffer *buffer = trunk->buffers + best;
    part->buffer = best;
    buffer->taken = 1;
    if (buffer->size < size) buffer->size = size;
}

/* Gradients of outputs are there from the start, those of other layers from the first that writes
 * them, until it is their turn: so few buffers do. */
static int share_buffers(Trunk *trunk)
{
    for (int i = 0; i < trunk->count; i++) {
        trunk->parts[i].buffer = -1;
        if (trunk->parts[i].is.output) take_buffer(trunk, trunk->parts + i);
    }
    for (int i = trunk->count - 1; i >= 0; i--) {
        Part *part = trunk->parts + i;
        if (part->is.input >= 0 && trunk->parts[part->is.input].buffer < 0) {
            take_buffer(trunk, trunk->parts + part->is.input);
            part->first = 1;
        }
        trunk->buffers[part->buffer].taken = 0;
    }
    for (int i = 0; i < trunk->count; i++) { /* backwards the one that comes first here is last */
        const int input = trunk->parts[i].is.input;
        trunk->parts[i].last = input >= 0;
        for (int other = 0; other < i; other++)
            if (trunk->parts[other].is.input == input) trunk->parts[i].last = 0;
    }
    int right = 1;
    for (int b = 0; right && b < trunk->count; b++)
        right = (trunk->buffers[b].maps =
                     room(trunk->groups * trunk->buffers[b].size, sizeof(Vector))) != NULL;
    return right;
}

static Trunk *make(const Layer *layers, int count, int channels, int side, int batch, int threads,
                   float eps, float momentum)
{
    Trunk *trunk = calloc(1, sizeof(Trunk));
    if (!trunk) return NULL;
    trunk->count = count;
    trunk->channels = channels;
    trunk->side = side;
    trunk->batch = batch;
    trunk->groups = (batch + LANES - 1) / LANES;
    trunk->slots = trunk->groups < SLOTS ? trunk->groups : SLOTS;
    trunk->threads = threads < 1 ? 1 : threads > trunk->slots ? trunk->slots : threads;
    trunk->eps = eps;
    trunk->momentum = momentum;
    pthread_mutex_init(&trunk->mutex, NULL);
    pthread_cond_init(&trunk->start, NULL);
    pthread_cond_init(&trunk->end, NULL);
    trunk->parts = calloc(count, sizeof(Part));
    trunk->buffers = calloc(count, sizeof(Buffer));
    trunk->events = calloc(3 * (size_t)count + 1, sizeof(Event));
    trunk->scratch = calloc(trunk->threads, sizeof(Scratch));
    trunk->workers = calloc(trunk->threads, sizeof(Worker));
    int right = trunk->parts && trunk->buffers && trunk->events && trunk->scratch && trunk->workers;
    size_t input = 1, wide = 1, tiles = 1;
    for (int i = 0; right && i < count; i++) {
        Part *part = trunk->parts + i;
        part->is = layers[i];
        right = prepare(trunk, part);
        const size_t map = (size_t)part->padded * part->padded * part->step;
        const size_t sums = (size_t)part->wide * (part->inputs && part->is.op == DEPTHWISE ? part->inputs : 1);
        const size_t blocks = (size_t)(part->wide / TILE) * ((part->inputs + TILE - 1) / TILE);
        input = map > input ? map : input;
        tiles = blocks > tiles ? blocks : tiles;
        wide = sums > wide ? sums : wide;
    }
    right = right && share_buffers(trunk);
    for (int i = 0; right && i < trunk->threads; i++) {
        Scratch *scratch = trunk->scratch + i;
        scratch->input = room(input, sizeof(Vector));
        scratch->around = room(input, sizeof(Vector));
        scratch->wide = room(wide, sizeof(Vector));
        scratch->tiles = room(tiles, TILE * TILE * sizeof(Vector));
        right = scratch->input && scratch->around && scratch->wide && scratch->tiles;
    }
    for (int i = 0; right && i + 1 < trunk->threads; i++) {
        trunk->workers[i] = (Worker){.trunk = trunk, .number = i + 1};
        right = !pthread_create(&trunk->workers[i].thread, NULL, worker, trunk->workers + i);
        trunk->started += right;
    }
    if (right) return trunk;
    release(trunk);
    return NULL;
}

__attribute__((visibility("default"))) const Api TABLE = {LANES, make, release, forward, backward};
