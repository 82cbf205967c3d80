// Camera frames to what a network takes: colour, area-averaged or bilinear size, normalised planes; one kernel, so that
// a frame is read once.
#include "../kernel.h"

constexpr int kThreads = 256;
enum Layout { kBgr, kRgb, kNv12 };

// The layout is mirrored by ARGUMENTS in cuda/preprocess_op.py.
struct Preprocess {
    const uint8_t* pixels;  // packed rows of three bytes; for NV12 the plane of brightness
    const uint8_t* colour;  // NV12: (H / 2, W / 2) pairs of blue and red difference; else null
    float* planes;          // (3, height, width)
    float scale[3], offset[3];  // of red, green, blue: value * scale - offset
    int32_t layout, width, height, pitch, to_width, to_height;  // pitch: bytes of a row of pixels and of colour
};

struct Colour {
    float red, green, blue;
};

__device__ __forceinline__ float clamped(float value) { return fminf(fmaxf(value, 0.0f), 255.0f); }

// BT.601, limited range: what cameras' NV12 holds, and OpenCV's COLOR_YUV2RGB_NV12.
__device__ __forceinline__ Colour colour_at(const Preprocess& args, int x, int y) {
    if (args.layout != kNv12) {
        const uint8_t* pixel = args.pixels + (int64_t)y * args.pitch + 3 * x;
        return args.layout == kRgb ? Colour{(float)pixel[0], (float)pixel[1], (float)pixel[2]}
                                   : Colour{(float)pixel[2], (float)pixel[1], (float)pixel[0]};
    }
    const uint8_t* pair = args.colour + (int64_t)(y / 2) * args.pitch + x / 2 * 2;
    const float bright = 1.164f * fmaxf((float)args.pixels[(int64_t)y * args.pitch + x] - 16.0f, 0.0f);
    const float u = (float)pair[0] - 128.0f, v = (float)pair[1] - 128.0f;
    return Colour{clamped(rintf(bright + 1.596f * v)), clamped(rintf(bright - 0.813f * v - 0.391f * u)),
                  clamped(rintf(bright + 2.018f * u))};
}

// Mean over the source pixels under a target pixel, each by the share that lies under it; where the picture grows, the
// pixels around its centre by distance.
__device__ __forceinline__ Colour sampled(const Preprocess& args, int x, int y) {
    const float step_x = (float)args.width / args.to_width, step_y = (float)args.height / args.to_height;
    // An interval of at least one pixel about the target's centre: when shrinking the target's own extent, when
    // growing the triangle of bilinear interpolation cut to its two pixels.
    const float centre_x = (x + 0.5f) * step_x, centre_y = (y + 0.5f) * step_y;
    const float half_x = fmaxf(step_x, 1.0f) / 2, half_y = fmaxf(step_y, 1.0f) / 2;
    const float x0 = fmaxf(centre_x - half_x, 0.0f), x1 = fminf(centre_x + half_x, (float)args.width);
    const float y0 = fmaxf(centre_y - half_y, 0.0f), y1 = fminf(centre_y + half_y, (float)args.height);
    Colour sum{0.0f, 0.0f, 0.0f};
    float total = 0.0f;
    for (int v = (int)y0; v < args.height && (float)v < y1; ++v) {
        const float share_y = fminf(v + 1.0f, y1) - fmaxf((float)v, y0);
        for (int u = (int)x0; u < args.width && (float)u < x1; ++u) {
            const float weight = share_y * (fminf(u + 1.0f, x1) - fmaxf((float)u, x0));
            const Colour pixel = colour_at(args, u, v);
            sum.red += weight * pixel.red;
            sum.green += weight * pixel.green;
            sum.blue += weight * pixel.blue;
            total += weight;
        }
    }
    return Colour{sum.red / total, sum.green / total, sum.blue / total};
}

// Grid: (ceil(width / 256), height) of the target, a thread a pixel. Values are rounded to bytes before they are
// normalised, as the CPU's resized picture is in bytes.
KERNEL(kThreads, 4, network_planes, Preprocess) {
    const int x = blockIdx.x * kThreads + threadIdx.x, y = blockIdx.y;
    if (x >= args.to_width) return;
    const Colour colour = sampled(args, x, y);
    const float values[3] = {colour.red, colour.green, colour.blue};
    const int64_t plane = (int64_t)args.to_width * args.to_height;
#pragma unroll
    for (int channel = 0; channel < 3; ++channel)
        args.planes[channel * plane + (int64_t)y * args.to_width + x] =
            clamped(rintf(values[channel])) * args.scale[channel] - args.offset[channel];
}
