/* The cascade on a picture: the same rules, in the same arithmetic, as facelet.cascade,
 * facelet.detector and facelet.boxes, which say why. Compiled without fused multiply-adds, so that
 * boxes are rounded as NumPy rounds them. */
#include "net.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(FACELET_THREADS)
#include <pthread.h>
#include <signal.h>
#endif

enum {
    STRIP = 512,      /* columns that a net slides over at a time: its rows stay in the first caches */
    CROPS = 8,        /* of a batch */
    MOST_PICTURE = 32766, /* side of a picture: beyond, OpenCV's remap is not what cuts the crops */
    MOST_SCALED = 1 << 20,
    MOST_THREADS = 1024,
    STAGES = 4
};

typedef struct {
    float *boxes, *scores, *windows, *landmarks;
    int64_t count;
} Found;

typedef struct { /* a window of a Pnet over the threshold */
    float score, offsets[4];
    int32_t row, column;
} Window;

typedef struct {
    int64_t before; /* goes first of those with the same score */
    int32_t place;
    float score;
} Ranked;

typedef struct {
    void *memory;
    size_t room;
} Room;

enum {
    STRIPS, WINDOWS, GATHERED, RANKED, GRID, NEAR, FOUND, OTHER, CROP_BYTES, CROP_AT, ACROSS, ROWS,
    KEPT, ROOMS
};

struct facelet_scratch {
    Plan plans[STAGES];
    Room room[ROOMS];
    int64_t windows;         /* in WINDOWS */
    float as_float[256];     /* of a byte */
    int helpers;             /* scratches that there are for further threads */
    facelet_scratch **helper;/* MOST_THREADS - 1, or NULL */
};

int facelet_scratch_new(facelet_scratch **made)
{
    if (!made) return FACELET_NULL;
    *made = calloc(1, sizeof **made);
    if (!*made) return FACELET_MEMORY;
    for (int byte = 0; byte < 256; byte++)
        (*made)->as_float[byte] = ((float)byte - 127.5f) * (1.0f / 128);
    return FACELET_OK;
}

void facelet_scratch_free(facelet_scratch *scratch)
{
    if (!scratch) return;
    for (int stage = 0; stage < STAGES; stage++) plan_free(&scratch->plans[stage]);
    for (int r = 0; r < ROOMS; r++) release(scratch->room[r].memory);
    for (int h = 0; h < scratch->helpers; h++) facelet_scratch_free(scratch->helper[h]);
    free(scratch->helper);
    free(scratch);
}

size_t facelet_scratch_bytes(const facelet_scratch *scratch)
{
    size_t bytes = 0;
    if (!scratch) return 0;
    bytes = sizeof *scratch;
    for (int stage = 0; stage < STAGES; stage++) bytes += plan_bytes(&scratch->plans[stage]);
    for (int r = 0; r < ROOMS; r++) bytes += scratch->room[r].room;
    for (int h = 0; h < scratch->helpers; h++) bytes += facelet_scratch_bytes(scratch->helper[h]);
    return bytes;
}

/* Room for so many things of a size, NULL if there isn't. What was in it may be lost. */
static void *room(facelet_scratch *scratch, int which, size_t count, size_t size)
{
    Room *r = &scratch->room[which];
    if (count > (SIZE_MAX / 4) / size) return NULL;
    size_t wanted = count * size + 64;
    if (wanted > r->room) wanted += wanted / 2;
    return room_for(&r->memory, &r->room, wanted) ? NULL : r->memory;
}

/* The same, keeping what is in it. */
static void *more_room(facelet_scratch *scratch, int which, size_t count, size_t size)
{
    Room *r = &scratch->room[which];
    if (count < r->room / size) return r->memory;
    if (count > (SIZE_MAX / 4) / size) return NULL;
    Room larger = {NULL, 0};
    if (room_for(&larger.memory, &larger.room, 2 * count * size + 1024)) return NULL;
    if (r->memory) memcpy(larger.memory, r->memory, r->room);
    release(r->memory);
    *r = larger;
    return r->memory;
}

/* ---- threads ----------------------------------------------------------------------------- */

/* A part of a stage's work, by its number; what it makes must not depend on the thread, whose
 * scratch it is given. Gives a code. */
typedef int Part(void *context, facelet_scratch *scratch, int64_t number);

typedef struct {
    Part *part;
    void *context;
    int64_t count;
    atomic_int next, code;
} Parts;

typedef struct {
    Parts *work;
    facelet_scratch *scratch;
} Worker;

static void *do_parts(void *argument)
{
    const Worker *worker = argument;
    Parts *work = worker->work;
    for (;;) {
        int number = atomic_fetch_add(&work->next, 1);
        if (number >= work->count || atomic_load(&work->code)) return NULL;
        int code = work->part(work->context, worker->scratch, number), right = FACELET_OK;
        if (code) atomic_compare_exchange_strong(&work->code, &right, code);
    }
}

#if defined(FACELET_THREADS)
static void *do_parts_aside(void *argument)
{
    const uint64_t before = tiny_off();
    do_parts(argument);
    tiny_as(before);
    return NULL;
}

/* The scratch of a further thread, NULL without memory. */
static facelet_scratch *helper(facelet_scratch *scratch, int number)
{
    if (!scratch->helper)
        scratch->helper = calloc(MOST_THREADS - 1, sizeof *scratch->helper);
    if (!scratch->helper) return NULL;
    if (number == scratch->helpers && !facelet_scratch_new(&scratch->helper[number]))
        scratch->helpers++;
    return number < scratch->helpers ? scratch->helper[number] : NULL;
}
#endif

/* Does all parts, on several threads where that is asked for. They live no longer than this call, so
 * that a process may fork between calls; where there can't be as many, fewer do the work. */
static int do_all(facelet_scratch *scratch, int threads, Part *part, void *context, int64_t count)
{
    Parts work = {.part = part, .context = context, .count = count};
    Worker first = {&work, scratch};
    if (count > INT32_MAX - MOST_THREADS) return FACELET_MEMORY;
#if defined(FACELET_THREADS)
    if (threads > count) threads = (int)count;
    if (threads > 1) {
        pthread_t others[MOST_THREADS - 1];
        Worker workers[MOST_THREADS - 1];
        sigset_t all, before;
        int started = 0;
        sigfillset(&all); /* signals are for the threads of the program */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        for (; started < threads - 1; started++) {
            workers[started] = (Worker){&work, helper(scratch, started)};
            if (!workers[started].scratch ||
                pthread_create(&others[started], NULL, do_parts_aside, &workers[started]))
                break;
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        do_parts(&first);
        for (int i = 0; i < started; i++) pthread_join(others[i], NULL);
        return atomic_load(&work.code);
    }
#else
    (void)threads;
#endif
    do_parts(&first);
    return atomic_load(&work.code);
}

/* ---- nets alone -------------------------------------------------------------------------- */

typedef struct {
    const float *data;
    int height, width;
} Floats;

static void from_floats(void *context, const Plan *plan, int row, float *out)
{
    const Floats *floats = context;
    const Blob *blob = &plan->net->blob[0];
    const Map *map = &plan->map[0];
    for (int picture = 0; picture < plan->count; picture++)
        for (int c = 0; c < 3; c++) {
            const float *in = floats->data +
                              (((size_t)picture * 3 + (size_t)c) * (size_t)floats->height +
                               (size_t)row) * (size_t)floats->width;
            if (plan->net->stride)
                for (int x = 0; x < floats->width; x++)
                    out[(x % blob->phases * 3 + c) * map->plane + x / blob->phases] = in[x];
            else
                for (int x = 0; x < floats->width; x++)
                    out[last_at(plan, 0, picture, x) + (size_t)c] = in[x];
        }
}

int facelet_net_shape(const facelet_net *net, int32_t height, int32_t width,
                      int32_t rows[FACELET_TASKS], int32_t columns[FACELET_TASKS])
{
    if (!net || !rows || !columns) return FACELET_NULL;
    int heights[512], widths[512];
    int code = net_sizes(net, height, width, heights, widths);
    for (int task = 0; task < FACELET_TASKS && !code; task++) {
        int there = net->output[task] > 0;
        rows[task] = there ? heights[net->output[task]] : 0;
        columns[task] = there ? widths[net->output[task]] : 0;
    }
    return code;
}

int facelet_net_run(const facelet_net *net, facelet_scratch *scratch, const float *data,
                    int64_t count, int32_t height, int32_t width,
                    float *const outputs[FACELET_TASKS])
{
    if (!net || !scratch || !outputs || (!data && count)) return FACELET_NULL;
    if (count < 0 || count > INT32_MAX) return FACELET_SIZE;
    Plan *plan = &scratch->plans[net->stride ? 0 : STAGES - 1];
    const int batch = net->stride ? 1 : CROPS;
    int code = plan_for(plan, net, height, width, batch);
    const uint64_t before = tiny_off();
    for (int64_t first = 0; first < count && !code; first += batch) {
        int some = count - first < batch ? (int)(count - first) : batch;
        Floats floats = {data + (size_t)first * 3 * (size_t)height * (size_t)width, height, width};
        plan_start(plan, some, from_floats, &floats);
        for (int row = 0, any = 1; any; row++) {
            any = 0;
            for (int task = 0; task < FACELET_TASKS; task++) {
                const int blob = net->output[task];
                if (blob < 0 || row >= plan->map[blob].height) continue;
                any = 1;
                const float *values = plan_row(plan, blob, row);
                if (!outputs[task]) continue;
                const Map *map = &plan->map[blob];
                for (int picture = 0; picture < some; picture++)
                    for (int c = 0; c < net->blob[blob].channels; c++) {
                        float *to = outputs[task] +
                                    (((size_t)(first + picture) * (size_t)net->blob[blob].channels +
                                      (size_t)c) * (size_t)map->height + (size_t)row) *
                                        (size_t)map->width;
                        for (int x = 0; x < map->width; x++)
                            to[x] = net->stride ? values[c * map->plane + x]
                                                : values[last_at(plan, blob, picture, x) + (size_t)c];
                    }
            }
        }
    }
    tiny_as(before);
    return code;
}

/* ---- boxes ------------------------------------------------------------------------------- */

static int goes_before(const Ranked *one, const Ranked *other)
{
    return one->score != other->score ? one->score > other->score : one->before < other->before;
}

/* Puts the best first, by merging; there is room for twice as many. The C library's own sort may ask
 * for memory. */
static Ranked *sort(Ranked *order, int64_t count)
{
    Ranked *other = order + count;
    for (int64_t width = 1; width < count; width *= 2) {
        for (int64_t start = 0; start < count; start += 2 * width) {
            int64_t middle = start + width < count ? start + width : count;
            int64_t end = middle + width < count ? middle + width : count;
            for (int64_t a = start, b = middle, to = start; to < end; to++)
                other[to] = b >= end || (a < middle && !goes_before(&order[b], &order[a]))
                                ? order[a++]
                                : order[b++];
        }
        Ranked *swap = order;
        order = other, other = swap;
    }
    return order;
}

static float area(const float *box) { return (box[2] - box[0]) * (box[3] - box[1]); }
static int whole(const float *box) { return box[2] > box[0] && box[3] > box[1]; }

static float shared(const float *a, const float *b)
{
    float width = fminf(a[2], b[2]) - fmaxf(a[0], b[0]);
    float height = fminf(a[3], b[3]) - fmaxf(a[1], b[1]);
    return fmaxf(width, 0) * fmaxf(height, 0);
}

/* Places of the boxes that are kept, best first, in scratch's KEPT. */
static int64_t suppress(facelet_scratch *scratch, const float *boxes, const float *scores,
                        int64_t count, float overlap, int smaller)
{
    Ranked *order = room(scratch, RANKED, 2 * (size_t)count, sizeof *order);
    int32_t *kept = room(scratch, KEPT, (size_t)count, sizeof *kept);
    if (!order || !kept) return -1;
    for (int64_t i = 0; i < count; i++) order[i] = (Ranked){i, (int32_t)i, scores[i]};
    order = sort(order, count);
    int64_t left = 0;
    for (int64_t i = 0; i < count; i++) {
        const float *box = boxes + 4 * (size_t)order[i].place;
        float mine = fmaxf(area(box), 0);
        int over = 0;
        for (int64_t k = 0; k < left && !over; k++) {
            const float *other = boxes + 4 * (size_t)kept[k];
            float common = shared(other, box);
            if (common <= 0) continue; /* which no overlap is under */
            float its = fmaxf(area(other), 0);
            float all = smaller ? fminf(its, mine) : its + mine - common;
            over = common > overlap * all;
        }
        if (!over) kept[left++] = order[i].place;
    }
    return left;
}

static void moved_by(const float *box, const float *offsets, float *out)
{
    float side[2] = {box[2] - box[0], box[3] - box[1]};
    for (int i = 0; i < 4; i++) {
        float by = offsets[i] * side[i & 1];
        out[i] = box[i] + by;
    }
}

static void square_around(const float *box, float *out)
{
    float side = fmaxf(fmaxf(box[2] - box[0], box[3] - box[1]), 1);
    for (int i = 0; i < 2; i++) {
        float corner = rintf((box[i] + box[i + 2] - side) / 2);
        out[i] = corner;
        out[i + 2] = corner + rintf(side);
    }
}

static void landmark_square(const float *box, const facelet_settings *settings, float *out)
{
    float side = fmaxf(box[2] - box[0], box[3] - box[1]);
    double half = side * (float)(settings->landmark_side / 2), ends[4];
    for (int i = 0; i < 2; i++) {
        double centre = (box[i] + box[i + 2]) / 2;
        if (i) centre += side * settings->landmark_below;
        ends[i] = centre - half, ends[i + 2] = centre + half;
    }
    double whole_side = fmax(fmax(ends[2] - ends[0], ends[3] - ends[1]), 1);
    for (int i = 0; i < 2; i++) {
        double corner = rint((ends[i] + ends[i + 2] - whole_side) / 2);
        out[i] = (float)corner;
        out[i + 2] = (float)(corner + rint(whole_side));
    }
}

/* ---- the pyramid ------------------------------------------------------------------------- */

typedef struct {
    const uint8_t *pixels;
    int width, height;
    size_t stride;
} Picture;

/* A strip of a picture at a scale, made row by row. */
typedef struct {
    facelet_scratch *scratch;
    const Kernels *kernels;
    const Picture *picture;
    int width, height;   /* of the whole picture at the scale */
    int left, columns;   /* of the strip */
    int32_t *at;         /* of each column: where its pixel is in a row of the picture */
    int32_t *part;       /* and its part and its neighbour's, in 2048ths */
    int checked;         /* columns before this one may be read with a byte behind their neighbour */
    int16_t *across[2];  /* rows that are resampled across */
    int row[2];          /* of the picture */
    uint8_t *bytes;
} Scaled;

/* Between which two of `length` pixels, and with what parts, one of `scaled` lies: OpenCV's rule. */
static int between(int place, int length, int scaled, int32_t part[2])
{
    float at = (float)((place + 0.5) * ((double)length / scaled) - 0.5);
    int first = (int)floorf(at);
    float over = at - (float)first;
    if (first < 0) first = 0, over = 0;
    if (first >= length - 1) first = length - 1, over = 0;
    part[0] = (int32_t)lrintf((1.0f - over) * 2048.0f);
    part[1] = (int32_t)lrintf(over * 2048.0f);
    return first;
}

/* Down, OpenCV doesn't drop the part of a row beyond the edge, but takes the last row again. */
static int between_rows(int place, int length, int scaled, int32_t part[2], int *second)
{
    float at = (float)((place + 0.5) * ((double)length / scaled) - 0.5);
    int first = (int)floorf(at);
    float over = at - (float)first;
    part[0] = (int32_t)lrintf((1.0f - over) * 2048.0f);
    part[1] = (int32_t)lrintf(over * 2048.0f);
    *second = first + 1 < 0 ? 0 : first + 1 >= length ? length - 1 : first + 1;
    return first < 0 ? 0 : first >= length ? length - 1 : first;
}

static const int16_t *row_across(Scaled *scaled, int row, int keep)
{
    for (int i = 0; i < 2; i++)
        if (scaled->row[i] == row) return scaled->across[i];
    int slot = scaled->row[0] == keep ? 1 : 0;
    const uint8_t *bytes = scaled->picture->pixels + (size_t)row * scaled->picture->stride;
    int16_t *out = scaled->across[slot];
    scaled->kernels->resize_across(bytes, scaled->at, scaled->part, scaled->checked, out);
    for (int x = scaled->checked; x < scaled->columns; x++)
        for (int c = 0; c < 3; c++) {
            const uint8_t *from = bytes + scaled->at[x] + c;
            int next = scaled->part[2 * x + 1] ? from[3] : 0;
            out[3 * x + c] =
                (int16_t)((from[0] * scaled->part[2 * x] + next * scaled->part[2 * x + 1]) >> 4);
        }
    scaled->row[slot] = row;
    return out;
}

static void to_planes(const float *as_float, const uint8_t *bytes, const Plan *plan, float *out)
{
    const int phases = plan->net->blob[0].phases, width = plan->map[0].width;
    const ptrdiff_t plane = plan->map[0].plane;
    for (int phase = 0; phase < phases; phase++) {
        float *blue = out + phase * 3 * plane, *green = blue + plane, *red = green + plane;
        const uint8_t *from = bytes + 3 * phase;
        const int count = (width - phase + phases - 1) / phases;
        for (int i = 0; i < count; i++, from += 3 * phases) {
            blue[i] = as_float[from[0]];
            green[i] = as_float[from[1]];
            red[i] = as_float[from[2]];
        }
    }
}

static void from_picture(void *context, const Plan *plan, int row, float *out)
{
    Scaled *scaled = context;
    const Picture *picture = scaled->picture;
    const uint8_t *bytes;
    if (scaled->width == picture->width && scaled->height == picture->height)
        bytes = picture->pixels + (size_t)row * picture->stride + 3 * (size_t)scaled->left;
    else {
        int32_t part[2];
        int second, first = between_rows(row, picture->height, scaled->height, part, &second);
        const int16_t *upper = row_across(scaled, first, second);
        const int16_t *lower = row_across(scaled, second, first);
        scaled->kernels->resize_down(upper, lower, part, 3 * scaled->columns, scaled->bytes);
        bytes = scaled->bytes;
    }
    to_planes(scaled->scratch->as_float, bytes, plan, out);
}

/* Columns of a picture at a scale that a net slides over at a time, and what it finds there. */
typedef struct {
    int width, height;      /* of the whole picture at the scale */
    int left, columns;
    int before, kept;       /* columns of windows in the strips on the left, and of its own */
    int rows;
    const facelet_scratch *scratch; /* whose WINDOWS has them, in the order of rows and columns */
    int64_t first, count;
} Strip;

typedef struct {
    const facelet_net *net;
    const Picture *picture;
    float threshold;
    Strip *strips;
} Sliding;

/* A Part: the windows of a strip over the threshold. */
static int slide(void *context, facelet_scratch *scratch, int64_t number)
{
    const Sliding *sliding = context;
    const facelet_net *net = sliding->net;
    const Picture *picture = sliding->picture;
    Strip *strip = &sliding->strips[number];
    Plan *plan = &scratch->plans[0];
    Scaled scaled = {.scratch = scratch, .kernels = net->kernels, .picture = picture,
                     .width = strip->width, .height = strip->height, .left = strip->left,
                     .columns = strip->columns, .row = {-1, -1}};
    const size_t most = (size_t)strip->columns + 32;
    scaled.at = room(scratch, ACROSS, 3 * most, sizeof(int32_t));
    int16_t *shorts = room(scratch, ROWS, 8 * most, sizeof(int16_t));
    if (!scaled.at || !shorts) return FACELET_MEMORY;
    scaled.part = scaled.at + most;
    scaled.across[0] = shorts, scaled.across[1] = shorts + 3 * most;
    scaled.bytes = (uint8_t *)(shorts + 6 * most);
    for (int x = 0; x < scaled.columns; x++) {
        int at = between(scaled.left + x, picture->width, scaled.width, scaled.part + 2 * x);
        scaled.at[x] = 3 * at;
        if (at + 2 < picture->width) scaled.checked = x + 1;
    }
    int code = plan_for(plan, net, scaled.height, scaled.columns, 1);
    if (code) return code;
    plan_start(plan, 1, from_picture, &scaled);
    const int cls = net->output[CLS], bbox = net->output[BBOX];
    const Map *map = &plan->map[cls], *offsets = &plan->map[bbox];
    const int face = net->blob[cls].channels - 1;
    if (strip->kept > map->width) strip->kept = map->width;
    strip->rows = map->height;
    strip->scratch = scratch, strip->first = scratch->windows;
    for (int row = 0; row < map->height; row++) {
        const float *prob = plan_row(plan, cls, row) + face * map->plane;
        const float *moves = plan_row(plan, bbox, row);
        for (int x = 0; x < strip->kept; x++) {
            if (!(prob[x] > sliding->threshold)) continue;
            const int64_t count = scratch->windows;
            Window *windows = more_room(scratch, WINDOWS, (size_t)count + 1, sizeof *windows);
            if (!windows || count == INT32_MAX) return FACELET_MEMORY;
            Window *window = &windows[scratch->windows++];
            *window = (Window){prob[x], {0}, row, strip->before + x};
            for (int i = 0; i < 4; i++) window->offsets[i] = moves[i * offsets->plane + x];
        }
    }
    strip->count = scratch->windows - strip->first;
    return FACELET_OK;
}

/* The strips of all scales, in scratch's STRIPS. */
static int make_strips(facelet_scratch *scratch, const facelet_net *net, const Picture *picture,
                       const facelet_settings *settings, int64_t *count)
{
    const int cell = net->size, stride = net->stride;
    /* The last window of a strip but the last isn't used: pooling may reach over its edge. */
    const int longest = 4 * cell > STRIP ? 4 * cell : STRIP, kept = (longest - cell) / stride;
    for (double scale = cell / settings->min_face;; scale *= settings->factor) {
        double width = floor(picture->width * scale), height = floor(picture->height * scale);
        if (fmin(width, height) < cell) return FACELET_OK;
        if (fmax(width, height) > MOST_SCALED) return FACELET_SIZE;
        for (int left = 0, before = 0, last = 0; !last; left += kept * stride, before += kept) {
            last = left + longest >= (int)width;
            Strip *strips = more_room(scratch, STRIPS, (size_t)*count + 1, sizeof *strips);
            if (!strips) return FACELET_MEMORY;
            strips[(*count)++] = (Strip){.width = (int)width, .height = (int)height, .left = left,
                                         .columns = last ? (int)width - left : longest,
                                         .before = before, .kept = last ? INT32_MAX : kept};
        }
    }
}

/* A Pnet's proposals at a scale, of which there are the strips, added to the found ones. */
static int propose_at(facelet_scratch *scratch, const facelet_net *net, const Picture *picture,
                      const Strip *strips, int several, const facelet_settings *settings,
                      int64_t *found)
{
    const int cell = net->size, stride = net->stride, reach = (cell - 1) / stride;
    const int rows = strips->rows, columns = strips[several - 1].before + strips[several - 1].kept;
    int64_t count = 0;
    for (int i = 0; i < several; i++) count += strips[i].count;
    if (!count) return FACELET_OK;
    if (count > INT32_MAX) return FACELET_MEMORY;
    Window *windows = room(scratch, GATHERED, (size_t)count, sizeof *windows), *to = windows;
    if (!windows) return FACELET_MEMORY;
    for (int i = 0; i < several; to += strips[i++].count) {
        const Window *from = strips[i].scratch->room[WINDOWS].memory;
        if (strips[i].count)
            memcpy(to, from + strips[i].first, (size_t)strips[i].count * sizeof *to);
    }
    Ranked *order = room(scratch, RANKED, 2 * (size_t)count, sizeof *order);
    uint8_t *gone = room(scratch, GRID, (size_t)rows * (size_t)columns, 1);
    uint8_t *near = room(scratch, NEAR, (size_t)(2 * reach + 1) * (size_t)(2 * reach + 1), 1);
    if (!order || !gone || !near) return FACELET_MEMORY;
    for (int y = -reach; y <= reach; y++)
        for (int x = -reach; x <= reach; x++) {
            int common = (cell - stride * abs(y)) * (cell - stride * abs(x));
            near[(y + reach) * (2 * reach + 1) + x + reach] =
                common > settings->nms_scale * (2 * cell * cell - common);
        }
    memset(gone, 0, (size_t)rows * (size_t)columns);
    for (int64_t i = 0; i < count; i++)
        order[i] = (Ranked){(int64_t)windows[i].row * columns + windows[i].column, (int32_t)i,
                            windows[i].score};
    order = sort(order, count);
    const double scale_x = (double)strips->width / picture->width;
    const double scale_y = (double)strips->height / picture->height;
    for (int64_t i = 0; i < count; i++) {
        const Window *window = &windows[order[i].place];
        if (gone[(size_t)window->row * (size_t)columns + (size_t)window->column]) continue;
        for (int y = -reach; y <= reach; y++) {
            int row = window->row + y;
            if (row < 0 || row >= rows) continue;
            for (int x = -reach; x <= reach; x++) {
                int column = window->column + x;
                if (column >= 0 && column < columns)
                    gone[(size_t)row * (size_t)columns + (size_t)column] |=
                        near[(y + reach) * (2 * reach + 1) + x + reach];
            }
        }
        float *values = more_room(scratch, FOUND, (size_t)*found + 1, 9 * sizeof(float));
        if (!values || *found == INT32_MAX) return FACELET_MEMORY;
        values += 9 * (size_t)*found; /* a box, its window, its score */
        double x = (double)window->column * stride, y = (double)window->row * stride;
        values[4] = (float)(x / scale_x - 0.5), values[5] = (float)(y / scale_y - 0.5);
        values[6] = (float)((x + cell) / scale_x + 0.5);
        values[7] = (float)((y + cell) / scale_y + 0.5);
        moved_by(values + 4, window->offsets, values);
        values[8] = window->score;
        *found += whole(values);
    }
    return FACELET_OK;
}

/* Room for `count` faces, in one of FOUND and OTHER. */
static int room_for_faces(facelet_scratch *scratch, int which, int64_t count, int points,
                          Found *found)
{
    size_t each = 9 + 2 * (size_t)points;
    float *floats = room(scratch, which, (size_t)count * each + 1, sizeof(float));
    if (!floats) return FACELET_MEMORY;
    found->count = count;
    found->boxes = floats, found->windows = floats + 4 * count;
    found->scores = floats + 8 * count, found->landmarks = floats + 9 * count;
    return FACELET_OK;
}

static int propose(facelet_scratch *scratch, const facelet_net *net, const Picture *picture,
                   const facelet_settings *settings, Found *proposed)
{
    int64_t count = 0, parts = 0;
    int code = make_strips(scratch, net, picture, settings, &parts);
    Sliding sliding = {net, picture, (float)settings->thresholds[0], scratch->room[STRIPS].memory};
    scratch->windows = 0;
    for (int h = 0; h < scratch->helpers; h++) scratch->helper[h]->windows = 0;
    if (!code) code = do_all(scratch, settings->threads, slide, &sliding, parts);
    const Strip *strips = sliding.strips;
    for (int64_t i = 0, next; i < parts && !code; i = next) {
        for (next = i + 1; next < parts && strips[next].left;) next++;
        code = propose_at(scratch, net, picture, strips + i, (int)(next - i), settings, &count);
    }
    if (code) return code;
    const float *values = scratch->room[FOUND].memory;
    Found all;
    if (room_for_faces(scratch, OTHER, count, 0, &all)) return FACELET_MEMORY;
    for (int64_t i = 0; i < count; i++, values += 9) {
        memcpy(all.boxes + 4 * i, values, 4 * sizeof(float));
        memcpy(all.windows + 4 * i, values + 4, 4 * sizeof(float));
        all.scores[i] = values[8];
    }
    int64_t left = suppress(scratch, all.boxes, all.scores, count, (float)settings->nms[0], 0);
    if (left < 0 || room_for_faces(scratch, FOUND, left, 0, proposed)) return FACELET_MEMORY;
    const int32_t *kept = scratch->room[KEPT].memory;
    for (int64_t i = 0; i < left; i++) {
        memcpy(proposed->boxes + 4 * i, all.boxes + 4 * kept[i], 4 * sizeof(float));
        memcpy(proposed->windows + 4 * i, all.windows + 4 * kept[i], 4 * sizeof(float));
        proposed->scores[i] = all.scores[kept[i]];
    }
    return FACELET_OK;
}

/* ---- crops ------------------------------------------------------------------------------- */

typedef struct {
    const float *as_float;
    const uint8_t *bytes; /* of all crops, one behind the other */
    int size, mirrored;
} Crops;

static void from_crops(void *context, const Plan *plan, int row, float *out)
{
    const Crops *crops = context;
    const int size = crops->size;
    for (int picture = 0; picture < plan->count; picture++) {
        float *to = out + last_at(plan, 0, picture, 0);
        const uint8_t *from =
            crops->bytes + ((size_t)picture * (size_t)size + (size_t)row) * (size_t)size * 3;
        if (!crops->mirrored)
            for (int i = 0; i < 3 * size; i++) to[i] = crops->as_float[from[i]];
        else
            for (int x = 0; x < size; x++)
                for (int c = 0; c < 3; c++)
                    to[3 * x + c] = crops->as_float[from[3 * (size - 1 - x) + c]];
    }
}

/* Positions in a picture, in 32nds of a pixel, of a crop's columns or rows: as facelet.picture.crops
 * has them, which OpenCV rounds. */
static void positions(float from, float to, int size, int32_t *at)
{
    for (int i = 0; i < size; i++) {
        float step = ((float)i + 0.5f) / (float)size;
        float place = (to - from) * step;
        place = from + place;
        place = place - 0.5f;
        place = fminf(fmaxf(place, from), to - 1);
        place = fminf(fmaxf(place, -1e6f), 1e6f); /* where there is nothing but black */
        at[i] = (int32_t)lrintf(place * 32.0f);
    }
}

static int byte_at(const Picture *picture, int x, int y, int channel)
{
    if (x < 0 || y < 0 || x >= picture->width || y >= picture->height) return 0;
    return picture->pixels[(size_t)y * picture->stride + 3 * (size_t)x + (size_t)channel];
}

/* A square of a picture, scaled; black outside of it. `out` has a byte more than the crop. */
static void cut(const Kernels *kernels, const Picture *picture, const float *square, int size,
                int32_t *scratch, uint8_t *out)
{
    int32_t *across = scratch, *down = across + size, *at = down + size, *part = at + size;
    positions(square[0], square[2], size, across);
    positions(square[1], square[3], size, down);
    int first = 0, last = size; /* columns that lie in the picture, with a byte to spare */
    for (int x = 0; x < size; x++) {
        int column = across[x] >> 5;
        at[x] = 3 * column, part[x] = across[x] & 31;
        if (column < 0) first = x + 1;
        if (column + 2 >= picture->width && x < last) last = x;
    }
    if (first > last) first = last = size;
    for (int y = 0; y < size; y++, out += 3 * size) {
        int row = down[y] >> 5, below = down[y] & 31;
        int within = row >= 0 && row + 1 < picture->height;
        int start = within ? first : size, end = within ? last : size;
        if (end > start) {
            const uint8_t *upper = picture->pixels + (size_t)row * picture->stride;
            kernels->crop_row(upper, upper + picture->stride, at + start, part + start, below,
                              end - start, out + 3 * start);
        }
        for (int x = 0; x < size; x++) {
            if (x == start) x = end;
            if (x >= size) break;
            int column = across[x] >> 5;
            for (int c = 0; c < 3; c++) {
                int above = byte_at(picture, column, row, c) * (32 - part[x]) +
                            byte_at(picture, column + 1, row, c) * part[x];
                int under = byte_at(picture, column, row + 1, c) * (32 - part[x]) +
                            byte_at(picture, column + 1, row + 1, c) * part[x];
                out[3 * x + c] = (uint8_t)((above * (32 - below) + under * below + 512) >> 10);
            }
        }
    }
}

/* Cuts a batch of crops and starts the net on them. */
static int look(facelet_scratch *scratch, int stage, const facelet_net *net, const Picture *picture,
                const float *squares, int count, Crops *crops)
{
    const int size = net->size;
    const size_t bytes = (size_t)size * (size_t)size * 3;
    uint8_t *out = room(scratch, CROP_BYTES, CROPS * bytes, 1);
    int32_t *at = room(scratch, CROP_AT, 4 * (size_t)size, sizeof *at);
    if (!out || !at) return FACELET_MEMORY;
    for (int i = 0; i < count; i++)
        cut(net->kernels, picture, squares + 4 * i, size, at, out + (size_t)i * bytes);
    *crops = (Crops){scratch->as_float, out, size, 0};
    return plan_for(&scratch->plans[stage], net, size, size, CROPS);
}

/* A value of an output of a net that takes crops, which is one pixel. */
static const float *output(Plan *plan, int task, int picture)
{
    int blob = plan->net->output[task];
    return plan_row(plan, blob, 0) + last_at(plan, blob, picture, 0);
}

static void points_in(const float *square, const float *values, int points, float *out)
{
    const float side = square[2] - square[0];
    /* Five points are held as all x, then all y. */
    const int next = points == 5 ? 1 : 2, other = points == 5 ? 5 : 1;
    for (int p = 0; p < points; p++)
        for (int i = 0; i < 2; i++) {
            float by = values[p * next + i * other] * side;
            by = square[i] + by;
            out[2 * p + i] = by - 0.5f;
        }
}

typedef struct {
    int stage;
    const facelet_net *net;
    const Picture *picture;
    const facelet_settings *settings;
    int points;
    Found before, all;
} Refining;

/* A Part: what a net makes of a batch of boxes, each in its place in `all`. */
static int refine_some(void *context, facelet_scratch *scratch, int64_t number)
{
    const Refining *refining = context;
    const facelet_net *net = refining->net;
    const facelet_settings *settings = refining->settings;
    const Found *before = &refining->before, *all = &refining->all;
    const int last = refining->stage == 2, mirror = last && settings->mirror;
    const int points = refining->points;
    const float blend = last ? (float)settings->blend : 0;
    const int64_t first = number * CROPS;
    const int some = before->count - first < CROPS ? (int)(before->count - first) : CROPS;
    float *squares = all->windows + 4 * first, scores[CROPS], offsets[4 * CROPS];
    for (int i = 0; i < some; i++) square_around(before->boxes + 4 * (first + i), squares + 4 * i);
    Crops crops;
    Plan *plan = &scratch->plans[refining->stage];
    int code = look(scratch, refining->stage, net, refining->picture, squares, some, &crops);
    if (code) return code;
    const int face = net->blob[net->output[CLS]].channels - 1;
    if (mirror) {
        crops.mirrored = 1;
        plan_start(plan, some, from_crops, &crops);
        for (int i = 0; i < some; i++) {
            const float *box = output(plan, BBOX, i);
            scores[i] = output(plan, CLS, i)[face];
            offsets[4 * i] = -box[2], offsets[4 * i + 1] = box[1];
            offsets[4 * i + 2] = -box[0], offsets[4 * i + 3] = box[3];
        }
        crops.mirrored = 0;
    }
    plan_start(plan, some, from_crops, &crops);
    for (int i = 0; i < some; i++) {
        float box[4], score = output(plan, CLS, i)[face];
        memcpy(box, output(plan, BBOX, i), sizeof box);
        if (mirror) {
            score = (score + scores[i]) / 2;
            for (int k = 0; k < 4; k++) box[k] = (box[k] + offsets[4 * i + k]) / 2;
        }
        if (blend > 0)
            score = powf(score, (float)(1 - settings->blend)) *
                    powf(before->scores[first + i], blend);
        moved_by(squares + 4 * i, box, all->boxes + 4 * (first + i));
        all->scores[first + i] = score;
        if (points)
            points_in(squares + 4 * i, output(plan, LANDMARK, i), points,
                      all->landmarks + 2 * points * (first + i));
    }
    return FACELET_OK;
}

static int refine(facelet_scratch *scratch, int stage, const facelet_net *net,
                  const Picture *picture, const facelet_settings *settings, int points,
                  Found *found)
{
    const int last = stage == 2;
    const float threshold = (float)settings->thresholds[stage];
    Refining refining = {stage, net, picture, settings, points, *found, {0}};
    Found all; /* in OTHER, as what came before is in FOUND */
    if (room_for_faces(scratch, OTHER, found->count, points, &all)) return FACELET_MEMORY;
    refining.all = all;
    int code = do_all(scratch, settings->threads, refine_some, &refining,
                      (found->count + CROPS - 1) / CROPS);
    if (code) return code;
    int64_t count = 0;
    for (int64_t i = 0; i < found->count; i++) {
        if (!(all.scores[i] > threshold) || !whole(all.boxes + 4 * i)) continue;
        if (count < i) {
            all.scores[count] = all.scores[i];
            memcpy(all.boxes + 4 * count, all.boxes + 4 * i, 4 * sizeof(float));
            memcpy(all.windows + 4 * count, all.windows + 4 * i, 4 * sizeof(float));
            memcpy(all.landmarks + 2 * points * count, all.landmarks + 2 * points * i,
                   2 * (size_t)points * sizeof(float));
        }
        count++;
    }
    int64_t left = suppress(scratch, last ? all.boxes : all.windows, all.scores, count,
                            (float)settings->nms[stage], last);
    if (left < 0 || room_for_faces(scratch, FOUND, left, points, found)) return FACELET_MEMORY;
    const int32_t *kept = scratch->room[KEPT].memory;
    for (int64_t i = 0; i < left; i++) {
        const float *box = all.boxes + 4 * kept[i];
        float *to = found->boxes + 4 * i;
        memcpy(to, box, 4 * sizeof(float));
        memcpy(found->windows + 4 * i, all.windows + 4 * kept[i], 4 * sizeof(float));
        memcpy(found->landmarks + 2 * points * i, all.landmarks + 2 * points * kept[i],
               2 * (size_t)points * sizeof(float));
        found->scores[i] = all.scores[kept[i]];
        if (!last || settings->vote >= 1) continue;
        double sum[4] = {0}, weights = 0;
        for (int64_t k = 0; k < count; k++) {
            const float *other = all.boxes + 4 * k;
            float common = shared(box, other), both = area(box) + area(other) - common;
            float weight = common / fmaxf(both, 1e-12f) >= (float)settings->vote ? all.scores[k] : 0;
            if (k == kept[i]) weight = fmaxf(all.scores[k], 1e-12f);
            weights += weight;
            for (int j = 0; j < 4; j++) sum[j] += (double)weight * other[j];
        }
        for (int j = 0; j < 4; j++) to[j] = (float)(sum[j] / weights);
    }
    return FACELET_OK;
}

/* A Part: the points of a batch of faces. */
static int landmarks_of_some(void *context, facelet_scratch *scratch, int64_t number)
{
    const Refining *refining = context;
    const facelet_net *net = refining->net;
    const Found *all = &refining->all;
    const int64_t first = number * CROPS;
    const int some = all->count - first < CROPS ? (int)(all->count - first) : CROPS;
    float squares[4 * CROPS] = {0};
    for (int i = 0; i < some; i++) {
        const float *box = all->boxes + 4 * (first + i);
        if (refining->settings->landmark_side > 0)
            landmark_square(box, refining->settings, squares + 4 * i);
        else
            square_around(box, squares + 4 * i);
    }
    Crops crops;
    Plan *plan = &scratch->plans[refining->stage];
    int code = look(scratch, refining->stage, net, refining->picture, squares, some, &crops);
    if (code) return code;
    plan_start(plan, some, from_crops, &crops);
    for (int i = 0; i < some; i++)
        points_in(squares + 4 * i, output(plan, LANDMARK, i), refining->points,
                  all->landmarks + 2 * refining->points * (first + i));
    return FACELET_OK;
}

static int landmarks(facelet_scratch *scratch, const facelet_net *net, const Picture *picture,
                     const facelet_settings *settings, Found *found)
{
    Refining refining = {3, net, picture, settings, net->points, *found, {0}};
    Found with;
    if (room_for_faces(scratch, OTHER, found->count, net->points, &with)) return FACELET_MEMORY;
    memcpy(with.boxes, found->boxes, 9 * (size_t)found->count * sizeof(float));
    refining.all = *found = with;
    return do_all(scratch, settings->threads, landmarks_of_some, &refining,
                  (found->count + CROPS - 1) / CROPS);
}

/* ---- the door ---------------------------------------------------------------------------- */

static int gives(const facelet_net *net, int task, int channels)
{
    return net->output[task] > 0 && net->blob[net->output[task]].channels == channels;
}

static int is_refiner(const facelet_net *net)
{
    int heights[512], widths[512];
    if (net->stride || !gives(net, BBOX, 4) || net->output[CLS] < 0) return 0;
    if (net_sizes(net, net->size, net->size, heights, widths)) return 0;
    for (int task = CLS; task <= LANDMARK; task++)
        if (net->output[task] > 0 &&
            (heights[net->output[task]] != 1 || widths[net->output[task]] != 1))
            return 0;
    return 1;
}

static int is_cascade(const facelet_cascade *nets)
{
    const facelet_net *pnet = nets->pnet, *marks = nets->landmark;
    int heights[512], widths[512];
    if (!pnet->stride || pnet->stride > pnet->size || !gives(pnet, BBOX, 4) ||
        pnet->output[CLS] < 0)
        return 0;
    int cls = pnet->output[CLS], bbox = pnet->output[BBOX];
    if (pnet->blob[cls].phases != 1 || pnet->blob[bbox].phases != 1) return 0;
    for (int more = 0; more < 2 * pnet->stride; more++)
        if (net_sizes(pnet, pnet->size + more, pnet->size + more, heights, widths) ||
            heights[cls] != heights[bbox] ||
            heights[cls] < more / pnet->stride + 1)
            return 0;
    if (nets->onet && !nets->rnet) return 0;
    if (nets->rnet && !is_refiner(nets->rnet)) return 0;
    if (nets->onet && !is_refiner(nets->onet)) return 0;
    if (!marks) return 1;
    if (marks->stride || !marks->points || marks->output[LANDMARK] < 0) return 0;
    if (net_sizes(marks, marks->size, marks->size, heights, widths)) return 0;
    return heights[marks->output[LANDMARK]] == 1 && widths[marks->output[LANDMARK]] == 1;
}

static int in_range(double value, double least, double most)
{
    return value >= least && value <= most; /* false for what is no number */
}

static int are_settings(const facelet_settings *s)
{
    int right = in_range(s->min_face, 1, 1e9) && in_range(s->factor, 0.1, 0.95) &&
                in_range(s->nms_scale, 0, 1) && s->vote > 0 && in_range(s->vote, 0, 1) &&
                in_range(s->blend, 0, 1) && s->blend < 1 && in_range(s->landmark_side, 0, 1000) &&
                in_range(s->landmark_below, -1000, 1000) && s->threads >= 0 &&
                s->threads <= MOST_THREADS;
    for (int i = 0; i < 3; i++)
        right = right && in_range(s->thresholds[i], 0, 1) && in_range(s->nms[i], 0, 1);
    return right;
}

static int run_stages(const facelet_cascade *nets, facelet_scratch *scratch, const Picture *picture,
                      const facelet_settings *settings, Found *found, int *points)
{
    int code = propose(scratch, nets->pnet, picture, settings, found);
    if (!code && nets->rnet) {
        if (settings->box_points && !nets->onet) *points = nets->rnet->points;
        code = refine(scratch, 1, nets->rnet, picture, settings, *points, found);
    }
    if (!code && nets->onet) {
        if (settings->box_points) *points = nets->onet->points;
        code = refine(scratch, 2, nets->onet, picture, settings, *points, found);
    }
    if (!code && nets->landmark) {
        code = landmarks(scratch, nets->landmark, picture, settings, found);
        *points = nets->landmark->points;
    }
    return code;
}

int facelet_detect(const facelet_cascade *nets, facelet_scratch *scratch, const uint8_t *pixels,
                   int64_t width, int64_t height, int64_t stride, const facelet_settings *settings,
                   facelet_faces *faces)
{
    if (faces) memset(faces, 0, sizeof *faces);
    if (!nets || !nets->pnet || !scratch || !pixels || !settings || !faces) return FACELET_NULL;
    if (width < 1 || height < 1 || width > MOST_PICTURE || height > MOST_PICTURE || stride < 3 * width ||
        stride > INT64_MAX / height || (uint64_t)stride > SIZE_MAX / (uint64_t)height)
        return FACELET_SIZE;
    if (!are_settings(settings)) return FACELET_SETTINGS;
    if (!is_cascade(nets)) return FACELET_MISMATCH;
    const Picture picture = {pixels, (int)width, (int)height, (size_t)stride};
    Found found = {0};
    int points = 0;
    const uint64_t before = tiny_off();
    const int code = run_stages(nets, scratch, &picture, settings, &found, &points);
    tiny_as(before);
    if (code) return code;
    *faces = (facelet_faces){found.count, points, found.boxes, found.scores, found.windows,
                             found.landmarks};
    return FACELET_OK;
}
