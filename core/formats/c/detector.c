/* The nets that are compiled in, as a detector. */

struct facelet_detector {
    facelet_net *nets[FACELET_STAGES];
    facelet_cascade cascade;
    facelet_scratch *scratch;
    facelet_settings settings;
};

/* The first net of a stage with a number of points, any number for -1. */
static const facelet_included *included(int stage, int points)
{
    for (int i = 0; i < facelet_nets_count; i++)
        if (facelet_nets[i].stage == stage && (points < 0 || facelet_nets[i].points == points))
            return &facelet_nets[i];
    return NULL;
}

static int open_net(facelet_detector *detector, const facelet_included *net)
{
    return net ? facelet_net_new(net->words, net->bytes, NULL, &detector->nets[net->stage])
               : FACELET_OK;
}

static int open_nets(facelet_detector *detector, int points)
{
    const facelet_included *last = NULL, *marks = NULL;
    int code = FACELET_OK;
    for (int stage = FACELET_PNET; stage <= FACELET_ONET; stage++) {
        const facelet_included *net = included(stage, -1);
        if (net && stage > FACELET_PNET) last = net;
        if (!code) code = open_net(detector, net);
    }
    if (code) return code;
    if (!detector->nets[FACELET_PNET]) return FACELET_MISMATCH;
    const int own = last ? last->points : 0;
    if (points < 0) {
        points = own;
        for (int i = 0; i < facelet_nets_count; i++)
            if (facelet_nets[i].stage == FACELET_LANDMARK &&
                (!points || facelet_nets[i].points < points))
                points = facelet_nets[i].points;
    }
    if (points) {
        marks = included(FACELET_LANDMARK, points);
        if (!marks && own != points) return FACELET_ABSENT;
        code = open_net(detector, marks);
    }
    if (marks) {
        detector->settings.landmark_side = marks->side;
        detector->settings.landmark_below = marks->below;
    }
    detector->settings.box_points = points && !marks;
    detector->cascade =
        (facelet_cascade){detector->nets[FACELET_PNET], detector->nets[FACELET_RNET],
                          detector->nets[FACELET_ONET], detector->nets[FACELET_LANDMARK]};
    return code ? code : facelet_scratch_new(&detector->scratch);
}

int facelet_open(const char *mode, int32_t points, facelet_detector **made)
{
    if (!made) return FACELET_NULL;
    *made = NULL;
    const facelet_mode *found = NULL;
    for (int i = 0; i < facelet_modes_count && !found; i++)
        if (!strcmp(facelet_modes[i].name, mode ? mode : "")) found = &facelet_modes[i];
    if (!found || points < -1) return FACELET_ABSENT;
    facelet_detector *detector = calloc(1, sizeof *detector);
    if (!detector) return FACELET_MEMORY;
    detector->settings = found->settings;
    const int code = open_nets(detector, points);
    if (code)
        facelet_close(detector);
    else
        *made = detector;
    return code;
}

void facelet_close(facelet_detector *detector)
{
    if (!detector) return;
    for (int stage = 0; stage < FACELET_STAGES; stage++) facelet_net_free(detector->nets[stage]);
    facelet_scratch_free(detector->scratch);
    free(detector);
}

facelet_settings *facelet_settings_of(facelet_detector *detector)
{
    return detector ? &detector->settings : NULL;
}

int facelet_find(facelet_detector *detector, const uint8_t *pixels, int64_t width, int64_t height,
                 int64_t stride, facelet_faces *faces)
{
    if (faces) memset(faces, 0, sizeof *faces);
    if (!detector) return FACELET_NULL;
    return facelet_detect(&detector->cascade, detector->scratch, pixels, width, height, stride,
                          &detector->settings, faces);
}
