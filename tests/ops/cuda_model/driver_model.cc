// A libcuda.so.1 that is the CPU, for the real PyCUDA: what PyCUDA asks of the driver is checked as the driver checks
// it. Contexts are a stack of each thread, addresses must lie in what is allocated, handles must live, a launch must
// fit the kernel, and what may not be recorded ends a recording. Kernels are those built with cuda_model.h; the image
// of a module is the path of their library. It is no GPU: everything is done at once, in the caller's thread.
//
// MODEL_DRIVER_MEMORY in the environment: bytes of device memory, 4 GiB without it.

#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace {

enum Result {
    kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kInvalidDevice = 101, kInvalidImage = 200,
    kInvalidContext = 201, kInvalidHandle = 400, kNotFound = 500, kOutOfResources = 701, kNotSupported = 801,
    kCaptureUnsupported = 900, kCaptureInvalidated = 901,
};
constexpr unsigned kSharedByDefault = 48 * 1024, kSharedAtMost = 227 * 1024;

struct Context { bool lives = false; };
struct Module { void* library; };
struct Function {
    Module* module;
    void (*run)(const void*, const unsigned*, unsigned, unsigned, int, unsigned);
    const unsigned* needs;
    unsigned shared = kSharedByDefault;
};
using Step = std::function<void()>;
struct Stream { std::vector<Step>* recorded = nullptr; bool broken = false; };

std::recursive_mutex all;
Context primary, another{true};
int retained = 0;
thread_local std::vector<Context*> stack;
thread_local Stream* recording = nullptr;
std::map<uintptr_t, size_t> device_memory, host_memory;
std::set<Stream*> streams;
std::set<Module*> modules;
std::map<std::string, Function*> functions;  // by module and name; they live as long as the process
std::set<std::vector<Step>*> graphs;
size_t used = 0;
std::string failing;
int failing_code = 0;

size_t memory_at_most() {
    const char* told = getenv("MODEL_DRIVER_MEMORY");
    return told ? strtoull(told, nullptr, 10) : size_t{1} << 32;
}
bool inside(const std::map<uintptr_t, size_t>& blocks, uintptr_t address, size_t size) {
    auto next = blocks.upper_bound(address);
    if (next == blocks.begin()) return false;
    --next;
    return address + size <= next->first + next->second;
}
bool alive(Stream* stream) { return streams.count(stream) != 0; }
// What waits or allocates may not stand in a recording, and spoils it.
int not_recorded() {
    if (!recording) return kSuccess;
    recording->broken = true;
    return kCaptureUnsupported;
}
int on(Stream* stream, Step step) {
    if (!alive(stream)) return kInvalidHandle;
    if (stream->recorded) stream->recorded->push_back(std::move(step));
    else if (recording) return not_recorded();
    else step();
    return kSuccess;
}
int entered(const char* name, bool wants_context = true) {
    if (failing == name) {
        failing.clear();
        return failing_code;
    }
    if (wants_context && (stack.empty() || stack.back() != &primary || !primary.lives)) return kInvalidContext;
    return kSuccess;
}

}  // namespace

#define ENTER std::lock_guard<std::recursive_mutex> guard(all); if (int code = entered(__func__)) return code;
#define ENTER_ANYWHERE std::lock_guard<std::recursive_mutex> guard(all); \
    if (int code = entered(__func__, false)) return code;
#define NOT_RECORDED if (int code = not_recorded()) return code;

extern "C" {

// -- for tests: what lives, what fails next, and another library's context
void model_driver_counts(long long* counts) {
    counts[0] = retained; counts[1] = stack.size(); counts[2] = device_memory.size(); counts[3] = host_memory.size();
    counts[4] = streams.size(); counts[5] = modules.size(); counts[6] = graphs.size();
}
void model_driver_fail(const char* name, int code) { failing = name; failing_code = code; }
void* model_driver_another() { return &another; }
void* model_driver_current() { return stack.empty() ? nullptr : stack.back(); }

int cuInit(unsigned) { ENTER_ANYWHERE return kSuccess; }
int cuDriverGetVersion(int* version) { *version = 13000; return kSuccess; }
int cuGetErrorString(int code, const char** text) {
    static thread_local std::string told;
    told = "CUDA error " + std::to_string(code);
    *text = told.c_str();
    return kSuccess;
}
int cuDeviceGetCount(int* count) { *count = 1; return kSuccess; }
int cuDeviceGet(int* device, int number) {
    ENTER_ANYWHERE
    *device = number;
    return number == 0 ? kSuccess : kInvalidDevice;
}
int cuDeviceGetName(char* name, int length, int) { strncpy(name, "driver model", length); return kSuccess; }
int cuDeviceComputeCapability(int* major, int* minor, int) { *major = 9; *minor = 0; return kSuccess; }
int cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = memory_at_most(); return kSuccess; }
int cuDeviceGetAttribute(int* value, int which, int) {
    *value = which == 97 ? kSharedAtMost : which == 16 ? 2 : which == 75 ? 9 : 0;
    return kSuccess;
}
int cuDevicePrimaryCtxRetain(void** context, int) {
    ENTER_ANYWHERE
    ++retained;
    primary.lives = true;
    *context = &primary;
    return kSuccess;
}
int cuDevicePrimaryCtxRelease_v2(int) {
    ENTER_ANYWHERE
    if (!retained) return kInvalidContext;
    if (!--retained) primary.lives = false;
    return kSuccess;
}
int cuCtxPushCurrent_v2(void* context) {
    ENTER_ANYWHERE
    if (!context || !static_cast<Context*>(context)->lives) return kInvalidContext;
    stack.push_back(static_cast<Context*>(context));
    return kSuccess;
}
int cuCtxPopCurrent_v2(void** context) {
    ENTER_ANYWHERE
    if (stack.empty()) return kInvalidContext;
    if (context) *context = stack.back();
    stack.pop_back();
    return kSuccess;
}
int cuCtxGetCurrent(void** context) { *context = model_driver_current(); return kSuccess; }
int cuCtxSynchronize() { ENTER NOT_RECORDED return kSuccess; }

int cuMemGetInfo_v2(size_t* free, size_t* total) {
    ENTER
    *total = memory_at_most();
    *free = *total - used;
    return kSuccess;
}
int cuMemAlloc_v2(uintptr_t* address, size_t size) {
    ENTER NOT_RECORDED
    if (!size) return kInvalidValue;
    if (used + size > memory_at_most()) return kOutOfMemory;
    void* block = aligned_alloc(512, (size + 511) / 512 * 512);
    if (!block) return kOutOfMemory;
    memset(block, 0xA5, size);
    *address = reinterpret_cast<uintptr_t>(block);
    device_memory[*address] = size;
    used += size;
    return kSuccess;
}
int cuMemFree_v2(uintptr_t address) {
    ENTER NOT_RECORDED
    auto found = device_memory.find(address);
    if (found == device_memory.end()) return kInvalidValue;
    used -= found->second;
    device_memory.erase(found);
    free(reinterpret_cast<void*>(address));
    return kSuccess;
}
int cuMemHostAlloc(void** address, size_t size, unsigned) {
    ENTER NOT_RECORDED
    *address = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    if (!size || !*address) return kOutOfMemory;
    host_memory[reinterpret_cast<uintptr_t>(*address)] = size;
    return kSuccess;
}
int cuMemFreeHost(void* address) {
    ENTER NOT_RECORDED
    if (!host_memory.erase(reinterpret_cast<uintptr_t>(address))) return kInvalidValue;
    free(address);
    return kSuccess;
}
int cuMemcpyHtoDAsync_v2(uintptr_t to, const void* from, size_t size, Stream* stream) {
    ENTER NOT_RECORDED  // the content of host memory may change
    if (!inside(device_memory, to, size)) return kInvalidValue;
    return on(stream, [=] { memcpy(reinterpret_cast<void*>(to), from, size); });
}
int cuMemcpyDtoHAsync_v2(void* to, uintptr_t from, size_t size, Stream* stream) {
    ENTER NOT_RECORDED
    if (!inside(device_memory, from, size)) return kInvalidValue;
    return on(stream, [=] { memcpy(to, reinterpret_cast<void*>(from), size); });
}
int cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t size, Stream* stream) {
    ENTER
    if (!size || !inside(device_memory, to, size) || !inside(device_memory, from, size)) return kInvalidValue;
    return on(stream, [=] { memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), size); });
}
int cuMemsetD8Async(uintptr_t to, unsigned char byte, size_t size, Stream* stream) {
    ENTER
    if (!size || !inside(device_memory, to, size)) return kInvalidValue;
    return on(stream, [=] { memset(reinterpret_cast<void*>(to), byte, size); });
}

int cuStreamCreate(Stream** stream, unsigned) {
    ENTER NOT_RECORDED
    streams.insert(*stream = new Stream);
    return kSuccess;
}
int cuStreamDestroy_v2(Stream* stream) {
    ENTER
    if (!streams.erase(stream)) return kInvalidHandle;
    delete stream;
    return kSuccess;
}
int cuStreamSynchronize(Stream* stream) {
    ENTER NOT_RECORDED
    return alive(stream) ? kSuccess : kInvalidHandle;
}
int cuStreamBeginCapture_v2(Stream* stream, int) {
    ENTER
    if (!alive(stream)) return kInvalidHandle;
    if (stream->recorded || recording) return kInvalidValue;
    stream->recorded = new std::vector<Step>;
    stream->broken = false;
    recording = stream;
    return kSuccess;
}
int cuStreamEndCapture(Stream* stream, void** graph) {
    ENTER
    *graph = nullptr;
    if (!alive(stream) || !stream->recorded || recording != stream) return kInvalidValue;
    std::vector<Step>* made = stream->recorded;
    stream->recorded = nullptr;
    recording = nullptr;
    if (stream->broken) {
        delete made;
        return kCaptureInvalidated;
    }
    graphs.insert(made);
    *graph = made;
    return kSuccess;
}
int cuGraphInstantiateWithFlags(void** made, void* graph, unsigned long long) {
    ENTER
    if (!graphs.count(static_cast<std::vector<Step>*>(graph))) return kInvalidValue;
    auto* copy = new std::vector<Step>(*static_cast<std::vector<Step>*>(graph));
    graphs.insert(copy);
    *made = copy;
    return kSuccess;
}
int cuGraphLaunch(void* graph, Stream* stream) {
    ENTER
    auto* steps = static_cast<std::vector<Step>*>(graph);
    if (!graphs.count(steps) || !alive(stream)) return kInvalidHandle;
    NOT_RECORDED
    for (const Step& step : *steps) step();
    return kSuccess;
}
int cuGraphDestroy(void* graph) {
    ENTER
    if (!graphs.erase(static_cast<std::vector<Step>*>(graph))) return kInvalidValue;
    delete static_cast<std::vector<Step>*>(graph);
    return kSuccess;
}
int cuGraphExecDestroy(void* graph) { return cuGraphDestroy(graph); }

int cuModuleLoadDataEx(Module** module, const void* image, unsigned, int*, void**) {
    ENTER NOT_RECORDED
    void* library = dlopen(static_cast<const char*>(image), RTLD_NOW | RTLD_LOCAL);
    if (!library) return kInvalidImage;
    modules.insert(*module = new Module{library});
    return kSuccess;
}
int cuModuleUnload(Module* module) {
    ENTER NOT_RECORDED
    return modules.erase(module) ? kSuccess : kInvalidHandle;
}
int cuModuleGetFunction(Function** function, Module* module, const char* name) {
    ENTER
    if (!modules.count(module)) return kInvalidHandle;
    void* run = dlsym(module->library, name);
    void* needs = dlsym(module->library, (std::string(name) + "_needs").c_str());
    if (!run || !needs) return kNotFound;
    Function*& kept = functions[std::to_string(reinterpret_cast<uintptr_t>(module)) + name];
    if (!kept) kept = new Function{module, reinterpret_cast<decltype(Function::run)>(run),
                                   static_cast<const unsigned*>(needs)};
    *function = kept;
    return kSuccess;
}
int cuFuncSetAttribute(Function* function, int which, int value) {
    ENTER
    if (!modules.count(function->module)) return kInvalidHandle;
    if (which != 8 || value < 0 || static_cast<unsigned>(value) > kSharedAtMost) return kInvalidValue;
    function->shared = value;
    return kSuccess;
}
int cuFuncSetBlockShape(Function* function, int x, int y, int z) {
    ENTER
    return modules.count(function->module) && x > 0 && y > 0 && z > 0 ? kSuccess : kInvalidValue;
}
int cuLaunchKernel(Function* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y,
                   unsigned threads_z, unsigned shared, Stream* stream, void** one_by_one, void** options) {
    ENTER
    if (!modules.count(function->module)) return kInvalidHandle;
    const void* content = nullptr;
    size_t size = 0;
    for (; options && *options; options += 2) {
        if (*options == reinterpret_cast<void*>(1)) content = options[1];
        if (*options == reinterpret_cast<void*>(2)) size = *static_cast<size_t*>(options[1]);
    }
    if (one_by_one || !content || size != function->needs[0]) return kInvalidValue;
    if (!x || !y || !z || x > 0x7FFFFFFFu || y > 65535 || z > 65535 || threads_y != 1 || threads_z != 1 || !threads)
        return kInvalidValue;
    if (threads > function->needs[1]) return kOutOfResources;
    if (shared > function->shared) return kInvalidValue;
    std::string kept(static_cast<const char*>(content), size);
    return on(stream, [=] {
        const unsigned grid[3] = {x, y, z};
        function->run(kept.data(), grid, threads, shared, 0, 0);
    });
}

// The rest of what PyCUDA 2026.1 links to; the package calls none of it.
#define REFUSED(name) int name() { return kNotSupported; }
REFUSED(cuArray3DCreate_v2) REFUSED(cuArray3DGetDescriptor_v2) REFUSED(cuArrayCreate_v2) REFUSED(cuArrayDestroy)
REFUSED(cuArrayGetDescriptor_v2) REFUSED(cuCtxAttach) REFUSED(cuCtxCreate_v4) REFUSED(cuCtxDetach)
REFUSED(cuCtxDisablePeerAccess) REFUSED(cuCtxEnablePeerAccess) REFUSED(cuCtxGetApiVersion)
REFUSED(cuCtxGetCacheConfig) REFUSED(cuCtxGetDevice) REFUSED(cuCtxGetLimit) REFUSED(cuCtxGetSharedMemConfig)
REFUSED(cuCtxSetCacheConfig) REFUSED(cuCtxSetLimit) REFUSED(cuCtxSetSharedMemConfig) REFUSED(cuDeviceCanAccessPeer)
REFUSED(cuDeviceGetByPCIBusId) REFUSED(cuDeviceGetPCIBusId) REFUSED(cuEventCreate) REFUSED(cuEventDestroy_v2)
REFUSED(cuEventElapsedTime_v2) REFUSED(cuEventQuery) REFUSED(cuEventRecord) REFUSED(cuEventSynchronize)
REFUSED(cuFuncGetAttribute) REFUSED(cuFuncSetCacheConfig) REFUSED(cuFuncSetSharedSize) REFUSED(cuIpcCloseMemHandle)
REFUSED(cuIpcGetEventHandle) REFUSED(cuIpcGetMemHandle) REFUSED(cuIpcOpenEventHandle) REFUSED(cuIpcOpenMemHandle_v2)
REFUSED(cuLaunch) REFUSED(cuLaunchGrid) REFUSED(cuLaunchGridAsync) REFUSED(cuLinkAddData_v2) REFUSED(cuLinkAddFile_v2)
REFUSED(cuLinkComplete) REFUSED(cuLinkCreate_v2) REFUSED(cuLinkDestroy) REFUSED(cuMemAllocManaged)
REFUSED(cuMemAllocPitch_v2) REFUSED(cuMemGetAddressRange_v2) REFUSED(cuMemHostGetDevicePointer_v2)
REFUSED(cuMemHostGetFlags) REFUSED(cuMemHostRegister_v2) REFUSED(cuMemHostUnregister) REFUSED(cuMemcpy2DAsync_v2)
REFUSED(cuMemcpy2DUnaligned_v2) REFUSED(cuMemcpy2D_v2) REFUSED(cuMemcpy3DAsync_v2) REFUSED(cuMemcpy3DPeer)
REFUSED(cuMemcpy3DPeerAsync) REFUSED(cuMemcpy3D_v2) REFUSED(cuMemcpyAtoA_v2) REFUSED(cuMemcpyAtoD_v2)
REFUSED(cuMemcpyAtoH_v2) REFUSED(cuMemcpyDtoA_v2) REFUSED(cuMemcpyDtoD_v2) REFUSED(cuMemcpyDtoH_v2)
REFUSED(cuMemcpyHtoA_v2) REFUSED(cuMemcpyHtoD_v2) REFUSED(cuMemcpyPeer) REFUSED(cuMemcpyPeerAsync)
REFUSED(cuMemsetD16Async) REFUSED(cuMemsetD16_v2) REFUSED(cuMemsetD2D16Async) REFUSED(cuMemsetD2D16_v2)
REFUSED(cuMemsetD2D32Async) REFUSED(cuMemsetD2D32_v2) REFUSED(cuMemsetD2D8Async) REFUSED(cuMemsetD2D8_v2)
REFUSED(cuMemsetD32Async) REFUSED(cuMemsetD32_v2) REFUSED(cuMemsetD8_v2) REFUSED(cuModuleGetGlobal_v2)
REFUSED(cuModuleGetSurfRef) REFUSED(cuModuleGetTexRef) REFUSED(cuModuleLoad) REFUSED(cuModuleLoadData)
REFUSED(cuParamSetSize) REFUSED(cuParamSetTexRef) REFUSED(cuParamSetf) REFUSED(cuParamSeti) REFUSED(cuParamSetv)
REFUSED(cuProfilerInitialize) REFUSED(cuProfilerStart) REFUSED(cuProfilerStop) REFUSED(cuStreamAttachMemAsync)
REFUSED(cuStreamQuery) REFUSED(cuStreamWaitEvent) REFUSED(cuSurfRefGetArray) REFUSED(cuSurfRefSetArray)
REFUSED(cuTexRefCreate) REFUSED(cuTexRefDestroy) REFUSED(cuTexRefGetAddressMode) REFUSED(cuTexRefGetAddress_v2)
REFUSED(cuTexRefGetArray) REFUSED(cuTexRefGetFilterMode) REFUSED(cuTexRefGetFlags) REFUSED(cuTexRefGetFormat)
REFUSED(cuTexRefSetAddress2D_v3) REFUSED(cuTexRefSetAddressMode) REFUSED(cuTexRefSetAddress_v2)
REFUSED(cuTexRefSetArray) REFUSED(cuTexRefSetFilterMode) REFUSED(cuTexRefSetFlags) REFUSED(cuTexRefSetFormat)

}  // extern "C"
