/* The cascade of nets in C: a picture's bytes in, faces out. See README in facelet/engine/__init__.py
 * for how the library is made; every function below is safe to call from several threads, each with
 * its own scratch. */
#ifndef FACELET_ENGINE_H
#define FACELET_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define FACELET_API __declspec(dllexport)
#else
#define FACELET_API __attribute__((visibility("default")))
#endif

#define FACELET_ABI 2   /* changes with anything below */
#define FACELET_TASKS 4 /* cls, bbox, landmark, heatmap: what outputs a net may have */

enum {
    FACELET_OK = 0,
    FACELET_NULL,       /* a pointer that must not be NULL is */
    FACELET_SIZE,       /* a width, height or stride that can't be, or a picture too large */
    FACELET_MEMORY,     /* none left */
    FACELET_DAMAGED,    /* a net's description that isn't whole, or says what can't be */
    FACELET_UNSUPPORTED,/* a sound net that this engine can't run */
    FACELET_MISMATCH,   /* nets that don't make a cascade */
    FACELET_SETTINGS,   /* settings out of range */
    FACELET_ABSENT      /* no such net or mode is compiled in */
};

typedef struct facelet_net facelet_net;         /* weights, read only once made */
typedef struct facelet_scratch facelet_scratch; /* buffers of one thread */

typedef struct {
    int32_t size;            /* side of the input, pixels */
    int32_t stride;          /* of a net that slides over pictures, else 0 */
    int32_t points;          /* landmark points, 0 without */
    int32_t outputs;         /* bit per task */
    int32_t values[FACELET_TASKS]; /* channels of each output */
} facelet_facts;

typedef struct {
    const facelet_net *pnet, *rnet, *onet, *landmark; /* NULL: none, from the end */
} facelet_cascade;

/* As facelet.settings.Settings. The squares that the net for landmarks sees are squares around
 * boxes of `landmark_side` times a box's larger side, `landmark_below` sides below its centre;
 * landmark_side 0: around the boxes as they are. */
typedef struct {
    double min_face, factor, thresholds[3], nms_scale, nms[3], vote, blend;
    double landmark_side, landmark_below;
    int32_t mirror;
    int32_t box_points; /* whether the points that the last net for boxes may give are wanted */
    int32_t threads;    /* that a picture is worked on by, 0 as 1; the faces are the same bits.
                           Builds without FACELET_THREADS have one. */
} facelet_settings;

/* Arrays of the scratch's, valid until its next use. */
typedef struct {
    int64_t count;
    int32_t points;         /* of each face */
    const float *boxes;     /* count x 4: x1 y1 x2 y2 */
    const float *scores;    /* count */
    const float *windows;   /* count x 4: squares that the last net for boxes saw */
    const float *landmarks; /* count x points x 2 */
} facelet_faces;

FACELET_API int facelet_abi(void);
FACELET_API const char *facelet_error(int code);

/* The instruction sets that this build has and this processor runs, best first; NULL past the end. */
FACELET_API const char *facelet_instructions(int number);

/* A net from its description (facelet.engine.description); `instructions` as above, NULL: the best. */
FACELET_API int facelet_net_new(const void *bytes, size_t size, const char *instructions,
                                facelet_net **made);
FACELET_API void facelet_net_free(facelet_net *net);
FACELET_API int facelet_net_facts(const facelet_net *net, facelet_facts *facts);

FACELET_API int facelet_scratch_new(facelet_scratch **made);
FACELET_API void facelet_scratch_free(facelet_scratch *scratch);
FACELET_API size_t facelet_scratch_bytes(const facelet_scratch *scratch);

/* Outputs of a net for inputs (count, 3, height, width), float32; outputs[task], (count, channels,
 * rows, columns), may be NULL; their sizes are what facelet_net_shape gives. */
FACELET_API int facelet_net_shape(const facelet_net *net, int32_t height, int32_t width,
                                  int32_t rows[FACELET_TASKS], int32_t columns[FACELET_TASKS]);
FACELET_API int facelet_net_run(const facelet_net *net, facelet_scratch *scratch, const float *data,
                                int64_t count, int32_t height, int32_t width,
                                float *const outputs[FACELET_TASKS]);

/* Faces in a picture, 8 bits a channel, BGR, rows `stride` bytes apart. */
FACELET_API int facelet_detect(const facelet_cascade *nets, facelet_scratch *scratch,
                               const uint8_t *pixels, int64_t width, int64_t height, int64_t stride,
                               const facelet_settings *settings, facelet_faces *faces);

#ifdef __cplusplus
}
#endif
#endif
