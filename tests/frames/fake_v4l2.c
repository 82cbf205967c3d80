/* A V4L2 camera made up inside the process that opens it, for tests on machines without one.

   Loaded with LD_PRELOAD. FAKE_V4L2_DEVICE names a regular file that stands for the device node: deleting it unplugs
   the camera. FAKE_V4L2_STATE names a file whose first letter says how it behaves: o (it works), b (another program has
   it), h (it gives no frame and lets no call return). What runs above it is FFmpeg's own V4L2 code and ours. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BUFFERS 4
#define SLOT (1 << 18) /* bytes between buffers; mapped, so a multiple of the page size */

static const unsigned formats[2] = {V4L2_PIX_FMT_YUYV, V4L2_PIX_FMT_MJPEG};
static const unsigned sizes[2][2] = {{160, 120}, {320, 240}};
static unsigned width = 160, height = 120, frames, queue[BUFFERS], queued;

static unsigned frame_bytes(void) { return 2 * width * height; }

static char state(void) {
    FILE *file = fopen(getenv("FAKE_V4L2_STATE"), "r");
    int letter = file ? fgetc(file) : 'o';
    if (file) fclose(file);
    return (char)letter;
}

static int is_camera(int descriptor) {
    struct stat one, other;
    const char *device = getenv("FAKE_V4L2_DEVICE");
    char link[64], path[512];
    if (!device) return 0;
    if (!stat(device, &one) && !fstat(descriptor, &other)) return one.st_ino == other.st_ino && one.st_dev == other.st_dev;
    /* Unplugged: the descriptor still leads to the deleted file. */
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    return length > 0 && !strncmp(path, device, strlen(device));
}

static int fail(int number) { errno = number; return -1; }

static int wait_for_frame(struct v4l2_buffer *buffer) {
    struct timespec pause = {0, 40000000};
    nanosleep(&pause, NULL);
    while (state() == 'h') sleep(1);
    if (access(getenv("FAKE_V4L2_DEVICE"), F_OK)) return fail(ENODEV);
    if (!queued) return fail(EIO);
    unsigned index = queue[0];
    memmove(queue, queue + 1, --queued * sizeof *queue);
    int descriptor = open(getenv("FAKE_V4L2_DEVICE"), O_RDWR);
    unsigned char *rows = malloc(frame_bytes());
    memset(rows, 128, frame_bytes());
    for (unsigned i = 0; i < frame_bytes(); i += 2) rows[i] = (unsigned char)(16 + frames % 200);
    if (pwrite(descriptor, rows, frame_bytes(), (off_t)index * SLOT) < 0) frames = 0;
    free(rows);
    close(descriptor);
    buffer->index = index;
    buffer->bytesused = buffer->length = frame_bytes();
    buffer->sequence = frames++;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    buffer->timestamp.tv_sec = now.tv_sec;
    buffer->timestamp.tv_usec = now.tv_nsec / 1000;
    return 0;
}

static void fill_format(struct v4l2_format *format) {
    format->fmt.pix.width = width;
    format->fmt.pix.height = height;
    format->fmt.pix.pixelformat = formats[0];
    format->fmt.pix.field = V4L2_FIELD_NONE;
    format->fmt.pix.bytesperline = 2 * width;
    format->fmt.pix.sizeimage = frame_bytes();
}

static int enumerate(unsigned long request, void *argument) {
    if (request == VIDIOC_ENUM_FMT) {
        struct v4l2_fmtdesc *format = argument;
        if (format->index > 1) return fail(EINVAL);
        format->pixelformat = formats[format->index];
        strcpy((char *)format->description, format->index ? "Motion-JPEG" : "YUYV 4:2:2");
        return 0;
    }
    if (request == VIDIOC_ENUM_FRAMESIZES) {
        struct v4l2_frmsizeenum *size = argument;
        if (size->index > 1) return fail(EINVAL);
        size->type = V4L2_FRMSIZE_TYPE_DISCRETE;
        size->discrete.width = sizes[size->index][0];
        size->discrete.height = sizes[size->index][1];
        return 0;
    }
    struct v4l2_frmivalenum *interval = argument;
    if (interval->index > 1) return fail(EINVAL);
    interval->type = V4L2_FRMIVAL_TYPE_DISCRETE;
    interval->discrete.numerator = 1;
    interval->discrete.denominator = interval->index ? 15 : 25;
    return 0;
}

static int camera(unsigned long request, void *argument) {
    struct v4l2_buffer *buffer = argument;
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *capability = argument;
        memset(capability, 0, sizeof *capability);
        strcpy((char *)capability->driver, "fake");
        strcpy((char *)capability->card, "A made-up camera");
        capability->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        capability->capabilities = capability->device_caps | V4L2_CAP_DEVICE_CAPS;
        return 0;
    }
    case VIDIOC_G_INPUT: *(int *)argument = 0; return 0;
    case VIDIOC_ENUMINPUT: ((struct v4l2_input *)argument)->type = V4L2_INPUT_TYPE_CAMERA; return 0;
    case VIDIOC_ENUM_FMT:
    case VIDIOC_ENUM_FRAMESIZES:
    case VIDIOC_ENUM_FRAMEINTERVALS: return enumerate(request, argument);
    case VIDIOC_S_FMT: {
        struct v4l2_format *format = argument;
        if (state() == 'b') return fail(EBUSY);
        int large = format->fmt.pix.width >= 320;
        width = sizes[large][0], height = sizes[large][1];
        fill_format(format);
        return 0;
    }
    case VIDIOC_G_FMT: fill_format(argument); return 0;
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM: {
        struct v4l2_streamparm *rate = argument;
        rate->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        rate->parm.capture.timeperframe.numerator = 1;
        rate->parm.capture.timeperframe.denominator = 25;
        return 0;
    }
    case VIDIOC_REQBUFS: ((struct v4l2_requestbuffers *)argument)->count = BUFFERS; return 0;
    case VIDIOC_QUERYBUF:
        buffer->length = frame_bytes();
        buffer->m.offset = buffer->index * SLOT;
        return truncate(getenv("FAKE_V4L2_DEVICE"), BUFFERS * SLOT);
    case VIDIOC_QBUF: queue[queued++] = buffer->index; return 0;
    case VIDIOC_STREAMON: return state() == 'b' ? fail(EBUSY) : 0;
    case VIDIOC_STREAMOFF: queued = 0; return 0;
    case VIDIOC_DQBUF: return wait_for_frame(buffer);
    default: return fail(ENOTTY);
    }
}

int ioctl(int descriptor, unsigned long request, ...) {
    static int (*real)(int, unsigned long, ...);
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (((request >> 8) & 0xff) == 'V' && is_camera(descriptor)) return camera((unsigned)request, argument);
    if (!real) real = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    return real(descriptor, request, argument);
}
