/* Faces in pictures, in C: no library is needed but C's own. C11 with the vectors of GCC or clang.
 *
 *     facelet_detector *detector;
 *     facelet_faces faces;
 *     int code = facelet_open(NULL, -1, &detector);
 *     if (!code) code = facelet_find(detector, pixels, width, height, stride, &faces);
 *     if (code) puts(facelet_error(code));
 *     facelet_close(detector);
 *
 * Every call that can fail gives FACELET_OK or another code, and changes nothing then. */
#ifndef FACELET_H
#define FACELET_H

#include "engine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- what nets.c has --------------------------------------------------------------------- */

enum { FACELET_PNET, FACELET_RNET, FACELET_ONET, FACELET_LANDMARK, FACELET_STAGES };

typedef struct {
    const char *name;         /* of the zoo */
    int32_t stage, points;    /* points: 0 where it gives none */
    const uint32_t *words;    /* what facelet_net_new takes */
    size_t bytes;
    double side, below;       /* as facelet_settings has them for a net for landmarks */
} facelet_included;

typedef struct {
    const char *name;         /* "": the ordinary one */
    facelet_settings settings;
} facelet_mode;

extern const facelet_included facelet_nets[];
extern const int32_t facelet_nets_count;
extern const facelet_mode facelet_modes[];
extern const int32_t facelet_modes_count;

/* ---- a detector of them ------------------------------------------------------------------ */

typedef struct facelet_detector facelet_detector; /* for one thread at a time */

/* mode -- of facelet_modes; NULL: the ordinary one
 * points -- how many each face gets, which a net must give; 0: none; -1: the fewest that one gives */
int facelet_open(const char *mode, int32_t points, facelet_detector **made);
void facelet_close(facelet_detector *detector);

/* What may be changed between pictures; never NULL for a detector. */
facelet_settings *facelet_settings_of(facelet_detector *detector);

/* Faces in a picture, 8 bits a channel, BGR, rows `stride` bytes apart. What `faces` points to is
 * valid until the next call with the detector. */
int facelet_find(facelet_detector *detector, const uint8_t *pixels, int64_t width, int64_t height,
                 int64_t stride, facelet_faces *faces);

#ifdef __cplusplus
}
#endif
#endif
