/* Nets: read from their descriptions, laid out for a size, run row by row.
 *
 * Each map is a ring of as many rows as its readers still need, and a row is made when a reader asks
 * for it, so that what a layer makes is read while it is in the first caches. */
#include "net.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_LAYERS = 256,
    MOST_CHANNELS = 8192,
    MOST_SIZE = 1000,
    MOST_STRIDE = 16,
    MOST_SIDE = 1 << 20,
    MOST_FLOATS = 1 << 28, /* of a plan */
    LINE = 16 /* floats: of a cache line, and of the longest vector */
};
static const char MAGIC[8] = {'F', 'A', 'C', 'E', 'N', 'E', 'T', 1};

FACELET_OTHER const Kernels kernels_base;
#if defined(FACELET_VARIANTS)
FACELET_OTHER const Kernels kernels_avx2, kernels_avx512;
#include <cpuid.h>

/* Floats of the widest vectors that the processor has and the system keeps. Not
 * __builtin_cpu_supports, which some compilers' libraries lack. */
static int widest_vectors(void)
{
    enum { OSXSAVE_AVX_FMA = 1 << 27 | 1 << 28 | 1 << 12, AVX2 = 1 << 5 };
    const unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    unsigned a, b, c, d, kept, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & OSXSAVE_AVX_FMA) != OSXSAVE_AVX_FMA) return 4;
    __asm__("xgetbv" : "=a"(kept), "=d"(high) : "c"(0));
    if ((kept & 6) != 6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & AVX2)) return 4;
    return (kept & 0xE0) == 0xE0 && (b & avx512) == avx512 ? 16 : 8;
}
#endif

static const Kernels *variant(int number)
{
    const Kernels *found[3];
    int count = 0;
#if defined(FACELET_VARIANTS)
    int widest = widest_vectors();
    if (widest >= 16) found[count++] = &kernels_avx512;
    if (widest >= 8) found[count++] = &kernels_avx2;
#endif
    found[count++] = &kernels_base;
    return number >= 0 && number < count ? found[number] : NULL;
}

const char *facelet_instructions(int number)
{
    const Kernels *kernels = variant(number);
    return kernels ? kernels->name : NULL;
}

int facelet_abi(void) { return FACELET_ABI; }

const char *facelet_error(int code)
{
    static const char *const TEXTS[] = {
        "nothing is wrong",
        "a pointer is NULL that must not be",
        "a width, height or stride that can't be, or a picture too large",
        "no memory left",
        "the description of a net is damaged",
        "a net that this engine can't run",
        "the nets don't belong together",
        "a setting is out of range",
        "no such net or mode is compiled in",
    };
    int known = code >= 0 && code < (int)(sizeof TEXTS / sizeof *TEXTS);
    return known ? TEXTS[code] : "an unknown error";
}

FACELET_LOCAL int room_for(void **memory, size_t *room, size_t wanted)
{
    const size_t line = LINE * sizeof(float);
    if (wanted <= *room) return FACELET_OK;
    if (wanted > SIZE_MAX / 2) return FACELET_MEMORY;
    /* Not aligned_alloc, which some C libraries lack: what malloc gave stands before the room. */
    char *given = malloc(wanted + line + sizeof given);
    if (!given) return FACELET_MEMORY;
    char *more = given + sizeof given;
    more += line - (uintptr_t)more % line;
    memcpy(more - sizeof given, &given, sizeof given);
    memset(more, 0, wanted);
    release(*memory);
    *memory = more;
    *room = wanted;
    return FACELET_OK;
}

FACELET_LOCAL void release(void *memory)
{
    char *given = NULL;
    if (memory) memcpy(&given, (char *)memory - sizeof given, sizeof given);
    free(given);
}

static int rounded(int value, int step) { return (value + step - 1) / step * step; }

/* ---- reading a description --------------------------------------------------------------- */

typedef struct {
    const unsigned char *at;
    size_t left;
} Bytes;

static int32_t take(Bytes *bytes)
{
    int32_t value = INT32_MIN; /* which no field may be */
    if (bytes->left >= 4) {
        memcpy(&value, bytes->at, 4);
        bytes->at += 4, bytes->left -= 4;
    } else
        bytes->left = 0;
    return value;
}

static const unsigned char *take_floats(Bytes *bytes, size_t count)
{
    if (bytes->left / 4 < count) return NULL;
    const unsigned char *found = bytes->at;
    for (size_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, found + 4 * i, 4);
        if (!isfinite(value)) return NULL;
    }
    bytes->at += 4 * count, bytes->left -= 4 * count;
    return found;
}

static uint32_t checksum(Bytes bytes) /* CRC-32 */
{
    uint32_t table[256], sum = ~0u;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xEDB88320u : 0);
    }
    for (; bytes.left; bytes.left--) sum = sum >> 8 ^ table[(sum ^ *bytes.at++) & 255];
    return ~sum;
}

static int within(int value, int least, int most) { return value >= least && value <= most; }

static float number_at(const unsigned char *floats, size_t place)
{
    float value;
    memcpy(&value, floats + 4 * place, 4);
    return value;
}

/* Weights in the order in which a kernel reads them. Weights of what fills channels up are 0. */
static void pack(const facelet_net *net, const Layer *layer, const unsigned char *floats, float *to)
{
    const Kernels *kernels = net->kernels;
    const int k = layer->kernel, seen = net->blob[layer->in[0]].channels;
    const int filled = net->stride ? layer->channels : rounded(layer->channels, kernels->lanes);
    if (layer->depthwise && net->stride) {
        for (size_t i = 0; i < (size_t)k * k * layer->channels; i++) to[i] = number_at(floats, i);
        return;
    }
    if (layer->depthwise) {
        for (int tap = 0; tap < k * k; tap++)
            for (int c = 0; c < filled; c++)
                *to++ = c < layer->channels ? number_at(floats, (size_t)c * k * k + tap) : 0;
        return;
    }
    for (int first = 0, block; first < filled; first += block) {
        block = net->stride
                    ? planar_block(kernels, filled - first)
                    : kernels->lanes * last_block(kernels, (filled - first) / kernels->lanes);
        for (int row = 0; row < k; row++)
            for (int column = 0; column < k; column++)
                for (int c = 0; c < seen; c++)
                    for (int o = first; o < first + block; o++)
                        *to++ = o < layer->channels
                                    ? number_at(floats,
                                                (((size_t)o * seen + c) * k + row) * k + column)
                                    : 0;
    }
}

static int read_layer(facelet_net *net, int number, Bytes *bytes, float **memory, int measure,
                      size_t *floats)
{
    Layer read = {0}, *layer = &read;
    layer->op = take(bytes);
    layer->inputs = take(bytes);
    for (int i = 0; i < MOST_INPUTS; i++) layer->in[i] = take(bytes);
    layer->channels = take(bytes);
    layer->kernel = take(bytes);
    layer->stride = take(bytes);
    layer->pad = take(bytes);
    layer->dilate = take(bytes);
    layer->depthwise = take(bytes);
    int slopes = take(bytes);
    int several = layer->op == ADD || layer->op == CONCAT;
    if (!within(layer->op, 0, OPERATIONS - 1) ||
        !within(layer->inputs, several ? 2 : 1, layer->op == CONCAT ? MOST_INPUTS : 1 + several) ||
        !within(layer->channels, 1, MOST_CHANNELS) || !within(layer->kernel, 1, MOST_KERNEL) ||
        !within(layer->stride, 1, MOST_STRIDE) || !within(layer->pad, 0, MOST_KERNEL) ||
        !within(layer->dilate, 1, MOST_KERNEL) || !within(layer->depthwise, 0, 1) ||
        !within(slopes, 0, 1))
        return FACELET_DAMAGED;
    int channels = 0;
    for (int i = 0; i < layer->inputs; i++) {
        if (!within(layer->in[i], 0, number)) return FACELET_DAMAGED;
        channels += net->blob[layer->in[i]].channels;
    }
    int first = net->blob[layer->in[0]].channels;
    if (layer->op == ADD &&
        (first != net->blob[layer->in[1]].channels || layer->in[0] == 0 || layer->in[1] == 0))
        return FACELET_DAMAGED;
    int expected = layer->op == CONCAT ? channels : first;
    int dense = layer->op == CONV && !layer->depthwise;
    if (!dense && layer->channels != expected) return FACELET_DAMAGED;
    if (layer->op != CONV && layer->op != PRELU && (slopes || layer->depthwise))
        return FACELET_DAMAGED;
    if (layer->op == PRELU && !slopes) return FACELET_DAMAGED;
    int window = layer->op == CONV || layer->op == POOL;
    if (!window && (layer->kernel != 1 || layer->stride != 1)) return FACELET_DAMAGED;
    if (layer->op != CONV && (layer->pad || layer->dilate != 1)) return FACELET_DAMAGED;
    /* The picture's own rows aren't filled up to whole vectors. */
    if (layer->in[0] == 0 && (layer->op != CONV || layer->depthwise)) return FACELET_UNSUPPORTED;
    if (layer->pad >= layer->dilate * (layer->kernel - 1) + 1) return FACELET_UNSUPPORTED;
    if (net->stride && layer->pad) return FACELET_UNSUPPORTED;
    if (net->stride && layer->op == CONCAT && layer->in[0] == 0) return FACELET_UNSUPPORTED;
    for (int i = 1; i < layer->inputs; i++)
        if (layer->in[i] == 0) return FACELET_UNSUPPORTED;

    Blob *made = &net->blob[number + 1];
    made->channels = layer->channels;
    made->filled = rounded(layer->channels, net->kernels->lanes);
    uint64_t weights = (uint64_t)layer->kernel * (uint64_t)layer->kernel;
    if (dense) weights *= (uint64_t)first;
    uint64_t kept = weights * (uint64_t)made->filled;
    weights *= (uint64_t)layer->channels;
    const unsigned char *given[3] = {NULL, NULL, NULL};
    if (layer->op == CONV) {
        if (weights > bytes->left / 4 || kept > SIZE_MAX / 64) return FACELET_DAMAGED;
        if (!(given[0] = take_floats(bytes, (size_t)weights))) return FACELET_DAMAGED;
        if (!(given[1] = take_floats(bytes, (size_t)layer->channels))) return FACELET_DAMAGED;
    }
    if (slopes && !(given[2] = take_floats(bytes, (size_t)layer->channels)))
        return FACELET_DAMAGED;
    const Blob *in = &net->blob[layer->in[0]];
    layer->shared = layer->dilate == 1 && in->filled == in->channels;
    if (measure) {
        *floats += layer->op == CONV ? (size_t)kept + LINE : 0;
        *floats += 2 * (size_t)rounded(made->filled, LINE);
    } else {
        float *to = *memory;
        if (given[0]) {
            pack(net, layer, given[0], to);
            layer->weights = to;
            to += ((size_t)kept + LINE - 1) / LINE * LINE;
            for (int c = 0; c < layer->channels; c++) to[c] = number_at(given[1], c);
            layer->bias = to;
            to += rounded(made->filled, LINE);
        }
        if (given[2]) {
            for (int c = 0; c < layer->channels; c++) to[c] = number_at(given[2], c) - 1;
            layer->slopes = to;
            to += rounded(made->filled, LINE);
        }
        *memory = to;
    }
    net->layer[number] = read;
    return FACELET_OK;
}

static int side_of(const Layer *layer, int side) /* -1: the kernel doesn't fit */
{
    int room = side + 2 * layer->pad - layer->dilate * (layer->kernel - 1) - 1;
    if (room < 0) return -1;
    return (layer->op == POOL ? (room + layer->stride - 1) / layer->stride : room / layer->stride) +
           1;
}

FACELET_LOCAL int net_sizes(const facelet_net *net, int height, int width, int *heights, int *widths)
{
    if (!within(height, net->size, MOST_SIDE) || !within(width, net->size, MOST_SIDE))
        return FACELET_SIZE;
    if (!net->stride && (height != net->size || width != net->size)) return FACELET_SIZE;
    heights[0] = height, widths[0] = width;
    for (int n = 0; n < net->layers; n++) {
        const Layer *layer = &net->layer[n];
        int from = layer->in[0];
        heights[n + 1] = side_of(layer, heights[from]);
        widths[n + 1] = side_of(layer, widths[from]);
        if (heights[n + 1] < 0 || widths[n + 1] < 0) return FACELET_DAMAGED;
        for (int i = 1; i < layer->inputs; i++)
            if (heights[layer->in[i]] != heights[from] || widths[layer->in[i]] != widths[from])
                return FACELET_DAMAGED;
    }
    return FACELET_OK;
}

/* First and last row of an input that a row of a layer's output is made of. */
static int first_row(const Layer *layer, int row) { return row * layer->stride - layer->pad; }
static int last_row(const Layer *layer, int row, int height)
{
    int last = first_row(layer, row) + layer->dilate * (layer->kernel - 1);
    return last < height ? last : height - 1;
}

/* Makes rows in thought, noting how many of a map are needed at a time. */
static void imagine_row(facelet_net *net, const int *heights, int *next, int blob)
{
    if (blob) {
        const Layer *layer = &net->layer[blob - 1];
        for (int i = 0; i < layer->inputs; i++)
            while (next[layer->in[i]] <= last_row(layer, next[blob], heights[layer->in[i]]))
                imagine_row(net, heights, next, layer->in[i]);
    }
    int lowest = next[blob];
    for (int n = 0; n < net->layers; n++)
        for (int i = 0; i < net->layer[n].inputs; i++)
            if (net->layer[n].in[i] == blob && next[n + 1] < heights[n + 1]) {
                int row = first_row(&net->layer[n], next[n + 1]);
                if (row < lowest) lowest = row < 0 ? 0 : row;
            }
    int needed = next[blob]++ - lowest + 1;
    if (needed > net->blob[blob].ring) net->blob[blob].ring = needed;
}

static int imagine(facelet_net *net, int height)
{
    int heights[MOST_LAYERS + 1], widths[MOST_LAYERS + 1], next[MOST_LAYERS + 1] = {0};
    int code = net_sizes(net, height, height, heights, widths);
    if (code) return code;
    for (int row = 0; row < MOST_SIDE; row++) {
        int any = 0;
        for (int task = 0; task < FACELET_TASKS; task++)
            if (net->output[task] > 0 && row < heights[net->output[task]]) {
                any = 1;
                while (next[net->output[task]] <= row)
                    imagine_row(net, heights, next, net->output[task]);
            }
        if (!any) break;
    }
    return FACELET_OK;
}

static int describe_blobs(facelet_net *net)
{
    for (int n = net->layers - 1; n >= 0; n--) {
        const Layer *layer = &net->layer[n];
        Blob *made = &net->blob[n + 1];
        if (!made->phases) made->phases = 1;
        for (int i = 0; i < layer->inputs; i++) {
            Blob *in = &net->blob[layer->in[i]];
            int phases = made->phases * layer->stride, reach = layer->kernel * layer->dilate;
            if (net->stride && (phases > MOST_STRIDE || (in->phases && in->phases != phases)))
                return FACELET_UNSUPPORTED;
            in->phases = phases;
            if (layer->pad > in->margin) in->margin = layer->pad;
            if (reach > in->reach) in->reach = reach;
            if (layer->op == POOL && layer->kernel > in->hanging) in->hanging = layer->kernel;
        }
    }
    return FACELET_OK;
}

static int read_net(facelet_net *net, Bytes bytes, float **memory, int measure, size_t *floats)
{
    for (int n = 0; n < net->layers; n++) {
        int code = read_layer(net, n, &bytes, memory, measure, floats);
        if (code) return code;
    }
    return bytes.left ? FACELET_DAMAGED : FACELET_OK;
}

int facelet_net_new(const void *data, size_t size, const char *instructions, facelet_net **made)
{
    static atomic_size_t nets;
    if (!made) return FACELET_NULL;
    *made = NULL;
    if (!data) return FACELET_NULL;
    Bytes bytes = {data, size};
    if (size < 12 || memcmp(data, MAGIC, 8)) return FACELET_DAMAGED;
    bytes.at += 8, bytes.left -= 8;
    uint32_t sum = (uint32_t)take(&bytes);
    if (sum != checksum(bytes)) return FACELET_DAMAGED;
    facelet_net read = {0};
    for (int number = 0; !read.kernels; number++) {
        const Kernels *kernels = variant(number);
        if (!kernels) return FACELET_UNSUPPORTED;
        if (!instructions || !strcmp(instructions, kernels->name)) read.kernels = kernels;
    }
    read.size = take(&bytes);
    read.stride = take(&bytes);
    read.points = take(&bytes);
    read.layers = take(&bytes);
    int outputs = 0;
    for (int task = 0; task < FACELET_TASKS; task++) {
        read.output[task] = take(&bytes);
        outputs += read.output[task] > 0;
        if (!within(read.output[task], -1, MOST_LAYERS) || !read.output[task])
            return FACELET_DAMAGED;
    }
    if (!within(read.size, 1, MOST_SIZE) || !within(read.stride, 0, MOST_STRIDE) ||
        !within(read.points, 0, MOST_CHANNELS) || !within(read.layers, 1, MOST_LAYERS) || !outputs)
        return FACELET_DAMAGED;
    for (int task = 0; task < FACELET_TASKS; task++)
        if (read.output[task] > read.layers) return FACELET_DAMAGED;

    facelet_net *net = malloc(sizeof *net);
    if (!net) return FACELET_MEMORY;
    *net = read;
    net->layer = calloc((size_t)net->layers, sizeof *net->layer);
    net->blob = calloc((size_t)net->layers + 1, sizeof *net->blob);
    int code = net->layer && net->blob ? FACELET_OK : FACELET_MEMORY;
    size_t floats = 0, room = 0;
    if (!code) {
        net->blob[0].channels = net->blob[0].filled = 3;
        code = read_net(net, bytes, NULL, 1, &floats);
    }
    void *memory = NULL;
    if (!code) code = room_for(&memory, &room, (floats + LINE) * sizeof(float));
    net->memory = memory;
    if (!code) {
        float *to = net->memory;
        code = read_net(net, bytes, &to, 0, &floats);
    }
    if (!code) code = describe_blobs(net);
    /* Rings are as large for every taller picture: what is made for what goes on in a circle. */
    if (!code) code = imagine(net, net->size);
    if (!code && net->stride) code = imagine(net, 8 * net->size + 3);
    if (net->output[LANDMARK] < 0) net->points = 0;
    if (!code && net->points &&
        2 * net->points != net->blob[net->output[LANDMARK]].channels)
        code = FACELET_DAMAGED;
    if (code) {
        facelet_net_free(net);
        return code;
    }
    net->id = atomic_fetch_add(&nets, 1) + 1;
    *made = net;
    return FACELET_OK;
}

void facelet_net_free(facelet_net *net)
{
    if (!net) return;
    free(net->layer);
    free(net->blob);
    release(net->memory);
    free(net);
}

int facelet_net_facts(const facelet_net *net, facelet_facts *facts)
{
    if (!net || !facts) return FACELET_NULL;
    *facts = (facelet_facts){net->size, net->stride, net->points, 0, {0}};
    for (int task = 0; task < FACELET_TASKS; task++)
        if (net->output[task] > 0) {
            facts->outputs |= 1 << task;
            facts->values[task] = net->blob[net->output[task]].channels;
        }
    return FACELET_OK;
}

/* ---- layout for a size ------------------------------------------------------------------- */

static int columns_of(int width, int phases, int phase)
{
    return (width - phase + phases - 1) / phases;
}

/* Offsets that a layer's kernels need, written to `to` where that isn't NULL; how many. */
static size_t offsets_of(const Plan *plan, int number, int32_t *to)
{
    const facelet_net *net = plan->net;
    const Layer *layer = &net->layer[number];
    const Blob *in = &net->blob[layer->in[0]], *out = &net->blob[number + 1];
    const Map *from = &plan->map[layer->in[0]], *made = &plan->map[number + 1];
    size_t count = 0;
    if (layer->op != CONV && layer->op != POOL) return 0;
    if (net->stride) {
        int apart = layer->op == POOL || layer->depthwise;
        for (int phase = 0; phase < out->phases; phase++) {
            /* apart: channel by channel; else in the order of the weights, pixel by pixel */
            for (int one = 0; one < (apart ? in->channels : layer->kernel); one++)
                for (int other = 0; other < (apart ? layer->kernel : in->channels); other++) {
                    int tap = apart ? other : one, channel = apart ? one : other;
                    int column = phase * layer->stride + tap * layer->dilate;
                    if (to)
                        to[count] = (int32_t)((column % in->phases * in->channels + channel) *
                                                  from->plane +
                                              column / in->phases);
                    count++;
                }
        }
        return count;
    }
    size_t pixels = (size_t)plan->batch * (size_t)made->width;
    if (to)
        for (int picture = 0; picture < plan->batch; picture++)
            for (int x = 0; x < made->width; x++) {
                size_t pixel = (size_t)picture * (size_t)made->width + (size_t)x;
                to[pixel] = (int32_t)((ptrdiff_t)last_at(plan, layer->in[0], picture,
                                                         x * layer->stride) -
                                      (ptrdiff_t)layer->pad * in->filled);
                to[2 * pixels + pixel] = (int32_t)last_at(plan, number + 1, picture, x);
                int left = from->width - x * layer->stride;
                to[pixels + pixel] = layer->kernel < left ? layer->kernel : left;
            }
    return 3 * pixels;
}

FACELET_LOCAL int plan_for(Plan *plan, const facelet_net *net, int height, int width, int batch)
{
    if (plan->id == net->id && plan->height == height && plan->width == width &&
        plan->batch == batch)
        return FACELET_OK;
    plan->id = 0;
    int heights[MOST_LAYERS + 1], widths[MOST_LAYERS + 1];
    int code = net_sizes(net, height, width, heights, widths);
    if (code) return code;
    size_t blobs = (size_t)net->layers + 1;
    void *maps = plan->map;
    code = room_for(&maps, &plan->maps_room, blobs * (sizeof(Map) + sizeof(size_t)));
    plan->map = maps;
    if (code) return code;
    plan->table = (size_t *)(plan->map + blobs);
    plan->net = net, plan->height = height, plan->width = width, plan->batch = batch;
    size_t floats = LINE;
    for (size_t b = 0; b < blobs; b++) {
        const Blob *blob = &net->blob[b];
        Map *map = &plan->map[b];
        map->height = heights[b], map->width = widths[b];
        if (net->stride) {
            map->plane = rounded(columns_of(widths[b], blob->phases, 0), LINE) +
                         rounded(blob->reach, LINE);
            map->row = (size_t)map->plane * (size_t)blob->phases * (size_t)blob->channels;
        } else {
            map->plane = 0;
            map->row = ((size_t)batch * (size_t)(widths[b] + 2 * blob->margin) + 1) *
                           (size_t)blob->filled + LINE;
            map->row = (map->row + LINE - 1) / LINE * LINE;
        }
        if (map->row > INT32_MAX) return FACELET_SIZE; /* offsets reach no farther */
        /* One row more: of zeros, for what lies outside the picture. */
        map->at = floats;
        floats += map->row * (size_t)(blob->ring + (blob->margin > 0));
        if (floats > MOST_FLOATS) return FACELET_SIZE;
    }
    size_t offsets = 0;
    for (int n = 0; n < net->layers; n++) {
        plan->table[n] = offsets;
        offsets += offsets_of(plan, n, NULL);
    }
    void *memory = plan->floats;
    size_t before = plan->floats_room;
    code = room_for(&memory, &plan->floats_room, floats * sizeof(float));
    plan->floats = memory;
    if (code) return code;
    if (before == plan->floats_room && !net->stride) memset(plan->floats, 0, floats * sizeof(float));
    memory = plan->offsets;
    code = room_for(&memory, &plan->offsets_room, offsets * sizeof(int32_t));
    plan->offsets = memory;
    if (code) return code;
    for (int n = 0; n < net->layers; n++) offsets_of(plan, n, plan->offsets + plan->table[n]);
    plan->id = net->id;
    return FACELET_OK;
}

FACELET_LOCAL void plan_free(Plan *plan)
{
    release(plan->map);
    release(plan->floats);
    release(plan->offsets);
    memset(plan, 0, sizeof *plan);
}

FACELET_LOCAL size_t plan_bytes(const Plan *plan)
{
    return plan->maps_room + plan->floats_room + plan->offsets_room;
}

/* ---- running ----------------------------------------------------------------------------- */

static float *row_at(const Plan *plan, int blob, int row)
{
    const Map *map = &plan->map[blob];
    const Blob *b = &plan->net->blob[blob];
    size_t place = row < 0 || row >= map->height ? (size_t)b->ring : (size_t)(row % b->ring);
    return plan->floats + map->at + place * map->row;
}

/* Over channels, for each pixel: only nets as they were trained have one. */
static void softmax(const float *in, ptrdiff_t from, float *out, ptrdiff_t to, int channels,
                    int pixels, ptrdiff_t pixel)
{
    for (int p = 0; p < pixels; p++, in += pixel, out += pixel) {
        float most = in[0], sum = 0;
        for (int c = 1; c < channels; c++) most = fmaxf(most, in[c * from]);
        for (int c = 0; c < channels; c++) sum += out[c * to] = expf(in[c * from] - most);
        for (int c = 0; c < channels; c++) out[c * to] /= sum;
    }
}

static void simple_row(const Plan *plan, int blob, int row, float *out)
{
    const facelet_net *net = plan->net;
    const Layer *layer = &net->layer[blob - 1];
    const Blob *b = &net->blob[blob];
    const Map *map = &plan->map[blob];
    const Kernels *kernels = net->kernels;
    const float *in = row_at(plan, layer->in[0], row);
    const int channels = b->channels;
    if (layer->op == CONCAT && net->stride) {
        for (int i = 0; i < layer->inputs; i++) {
            const Blob *from = &net->blob[layer->in[i]];
            const Map *other = &plan->map[layer->in[i]];
            const float *planes = row_at(plan, layer->in[i], row);
            for (int phase = 0; phase < b->phases; phase++)
                for (int c = 0; c < from->channels; c++)
                    memcpy(out + (phase * channels + c) * map->plane,
                           planes + (phase * from->channels + c) * other->plane,
                           (size_t)columns_of(map->width, b->phases, 0) * sizeof(float));
            out += from->channels * map->plane;
        }
        return;
    }
    if (net->stride) {
        int planes = channels * b->phases, columns = columns_of(map->width, b->phases, 0);
        ptrdiff_t from = plan->map[layer->in[0]].plane;
        for (int phase = 0; phase < b->phases && layer->op == SOFTMAX; phase++)
            softmax(in + phase * channels * from, from, out + phase * channels * map->plane,
                    map->plane, channels, columns_of(map->width, b->phases, phase), 1);
        for (int p = 0; p < planes; p++, in += from, out += map->plane) {
            if (layer->op == PRELU)
                kernels->planar_prelu(in, out, layer->slopes[p % channels], columns);
            if (layer->op == SIGMOID) kernels->sigmoid(in, out, columns);
            if (layer->op == ADD) {
                ptrdiff_t second = plan->map[layer->in[1]].plane;
                kernels->add(in, row_at(plan, layer->in[1], row) + p * second, out, columns);
            }
        }
        return;
    }
    for (int picture = 0; picture < plan->count; picture++) {
        float *to = out + last_at(plan, blob, picture, 0);
        int first = layer->in[0], floats = map->width * b->filled, at = 0;
        const float *from = in + last_at(plan, first, picture, 0);
        if (layer->op == PRELU)
            kernels->prelu(from, to, layer->slopes, b->filled, map->width);
        else if (layer->op == SIGMOID)
            kernels->sigmoid(from, to, floats);
        else if (layer->op == ADD)
            kernels->add(from,
                         row_at(plan, layer->in[1], row) + last_at(plan, layer->in[1], picture, 0),
                         to, floats);
        else if (layer->op == SOFTMAX)
            softmax(from, 1, to, 1, channels, map->width, b->filled);
        else
            for (int i = 0; i < layer->inputs; at += net->blob[layer->in[i]].channels, i++) {
                const Blob *other = &net->blob[layer->in[i]];
                from = row_at(plan, layer->in[i], row) + last_at(plan, layer->in[i], picture, 0);
                for (int x = 0; x < map->width; x++)
                    memcpy(to + (ptrdiff_t)x * b->filled + at, from + (ptrdiff_t)x * other->filled,
                           (size_t)other->channels * sizeof(float));
            }
    }
}

static void window_row(const Plan *plan, int blob, int row, float *out)
{
    const facelet_net *net = plan->net;
    const Layer *layer = &net->layer[blob - 1];
    const Blob *b = &net->blob[blob], *in = &net->blob[layer->in[0]];
    const Map *map = &plan->map[blob], *from = &plan->map[layer->in[0]];
    const Kernels *kernels = net->kernels;
    const float *rows[MOST_KERNEL];
    for (int r = 0; r < layer->kernel; r++) {
        int seen = first_row(layer, row) + r * layer->dilate;
        /* A pool's window that hangs over the edge sees the last row again. */
        if (layer->op == POOL && seen >= from->height) seen = from->height - 1;
        rows[r] = row_at(plan, layer->in[0], seen);
    }
    const int32_t *offsets = plan->offsets + plan->table[blob - 1];
    Work work = {.rows = rows, .kernel = layer->kernel, .in = offsets,
                 .weights = layer->weights, .bias = layer->bias, .slopes = layer->slopes};
    if (net->stride) {
        int apart = layer->op == POOL || layer->depthwise;
        work.taps = layer->kernel * in->channels;
        work.channels = b->channels;
        work.plane = map->plane;
        for (int phase = 0; phase < b->phases; phase++) {
            work.count = columns_of(map->width, b->phases, phase);
            work.out = out + phase * b->channels * map->plane;
            (layer->op == POOL ? kernels->planar_pool
             : apart           ? kernels->planar_depthwise
                               : kernels->planar_conv)(&work);
            work.in += work.taps;
        }
        return;
    }
    size_t pixels = (size_t)plan->batch * (size_t)map->width;
    work.to = offsets + 2 * pixels;
    work.count = plan->count * map->width;
    work.channels = b->filled;
    int each = !layer->shared || layer->depthwise || layer->op == POOL;
    work.taps = each ? in->channels : in->channels * layer->kernel;
    work.runs = each ? layer->kernel : 1;
    work.run_step = each ? layer->dilate * in->filled : 0;
    if (layer->op == POOL) {
        /* The table's second part belongs to whole batches. */
        int whole = plan->count;
        for (int picture = 0; picture < whole; picture++) {
            int32_t both[2];
            for (int x = 0; x < map->width; x++) {
                size_t pixel = (size_t)picture * (size_t)map->width + (size_t)x;
                both[0] = offsets[pixel], both[1] = offsets[pixels + pixel];
                work.in = both, work.count = 1, work.out = out;
                work.to = offsets + 2 * pixels + pixel;
                kernels->last_pool(&work);
            }
        }
        return;
    }
    work.out = out;
    (layer->depthwise ? kernels->last_depthwise : kernels->last_conv)(&work);
}

static void make_row(Plan *plan, int blob)
{
    const facelet_net *net = plan->net;
    Map *map = &plan->map[blob];
    const int row = map->next;
    if (!blob)
        plan->source(plan->context, plan, row, row_at(plan, 0, row));
    else {
        const Layer *layer = &net->layer[blob - 1];
        for (int i = 0; i < layer->inputs; i++) {
            const Map *in = &plan->map[layer->in[i]];
            while (in->next <= last_row(layer, row, in->height)) make_row(plan, layer->in[i]);
        }
        float *out = row_at(plan, blob, row);
        if (layer->op == CONV || layer->op == POOL)
            window_row(plan, blob, row, out);
        else
            simple_row(plan, blob, row, out);
        const Blob *b = &net->blob[blob];
        if (net->stride)
            for (int x = map->width; x < map->width + b->hanging; x++)
                for (int c = 0; c < b->channels; c++)
                    out[(x % b->phases * b->channels + c) * map->plane + x / b->phases] = -FLT_MAX;
    }
    map->next++;
}

FACELET_LOCAL void plan_start(Plan *plan, int count, Source *source, void *context)
{
    plan->count = count, plan->source = source, plan->context = context;
    for (int b = 0; b <= plan->net->layers; b++) plan->map[b].next = 0;
}

FACELET_LOCAL const float *plan_row(Plan *plan, int blob, int row)
{
    while (plan->map[blob].next <= row) make_row(plan, blob);
    return row_at(plan, blob, row);
}
