/* Faces in a picture: ./faces PICTURE.ppm [POINTS [MODE]]
 *
 * A line a face: x1 y1 x2 y2, score, x and y of each point. PPM is what `convert PICTURE.jpg
 * PICTURE.ppm` writes, or `ffmpeg -i PICTURE.jpg PICTURE.ppm`. */
#include "facelet.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

static int number(FILE *file) /* of a PPM's head; -1: there is none */
{
    int c = getc(file), value = 0, digits = 0;
    while (isspace(c) || c == '#') {
        if (c == '#')
            while (c != '\n' && c != EOF) c = getc(file);
        c = getc(file);
    }
    for (; isdigit(c) && value < 1000000; c = getc(file), digits++) value = 10 * value + c - '0';
    return digits && isspace(c) ? value : -1;
}

/* Pixels of a picture as BGR, NULL where it can't be read. */
static uint8_t *read_ppm(const char *path, int *width, int *height)
{
    uint8_t *pixels = NULL;
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    const int right = getc(file) == 'P' && getc(file) == '6';
    *width = number(file), *height = number(file);
    if (right && *width > 0 && *height > 0 && *width <= 32766 && *height <= 32766 &&
        number(file) == 255) {
        const size_t bytes = (size_t)*width * (size_t)*height * 3;
        pixels = malloc(bytes);
        if (pixels && fread(pixels, 1, bytes, file) != bytes) {
            free(pixels);
            pixels = NULL;
        }
        for (size_t i = 0; pixels && i < bytes; i += 3) {
            const uint8_t red = pixels[i];
            pixels[i] = pixels[i + 2], pixels[i + 2] = red;
        }
    }
    fclose(file);
    return pixels;
}

int main(int count, char **words)
{
    if (count < 2 || count > 4) {
        fprintf(stderr, "usage: %s PICTURE.ppm [POINTS [MODE]]\n", words[0]);
        return 2;
    }
    int width, height;
    uint8_t *pixels = read_ppm(words[1], &width, &height);
    if (!pixels) {
        fprintf(stderr, "error: %s is no PPM (P6, 8 bits) that can be read\n", words[1]);
        return 2;
    }
    facelet_detector *detector = NULL;
    facelet_faces faces;
    int code = facelet_open(count > 3 ? words[3] : NULL, count > 2 ? atoi(words[2]) : -1, &detector);
    if (!code) code = facelet_find(detector, pixels, width, height, 3 * (int64_t)width, &faces);
    if (code) fprintf(stderr, "error: %s\n", facelet_error(code));
    for (int64_t i = 0; !code && i < faces.count; i++) {
        const float *box = faces.boxes + 4 * i;
        printf("%.3f %.3f %.3f %.3f  %.7f", box[0], box[1], box[2], box[3], faces.scores[i]);
        for (int p = 0; p < 2 * faces.points; p++)
            printf(p % 2 ? " %.3f" : "  %.3f", faces.landmarks[2 * faces.points * i + p]);
        putchar('\n');
    }
    facelet_close(detector);
    free(pixels);
    return code ? 2 : 0;
}
