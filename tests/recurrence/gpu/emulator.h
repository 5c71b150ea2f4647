// A GPU that runs on a processor: blocks one after the other, the threads of a block as coroutines.
//
// A thread runs until it waits for others: for those of its warp, or of its block. Which of them goes on first is the
// caller's choice, so that who forgets to wait is seen: with the last thread first, what the first ones write comes too
// late for it. Shared memory begins as not a number. What is fetched into it arrives at once in the one order, and as
// late as may be in the other.
#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

#ifdef DOUBLE
#define float double
#endif

struct Size { long long x, y, z; };
struct alignas(4 * sizeof(float)) float4 { float x, y, z, w; };

#define __global__
#define __device__
#define __shared__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)

static float4 shared[1 << 16];
static Size threadIdx, blockIdx, blockDim;

namespace emulator {
enum Wait { NOTHING, WARP, BLOCK, END };
struct Copy { float* to; const float* from; };
struct Thread {
    ucontext_t context;
    std::vector<char> stack;
    Wait wait;
    float lent;
    std::vector<std::vector<Copy>> fetched;
};
static std::vector<Thread> threads;
static ucontext_t scheduler;
static int current;
static bool eager;
static void (*body)();

static void wait(Wait what) {
    threads[current].wait = what;
    swapcontext(&threads[current].context, &scheduler);
}
static void run() {
    body();
    threads[current].wait = END;
    swapcontext(&threads[current].context, &scheduler);
}
static void go_on(int thread) {
    current = thread;
    threadIdx = {thread, 0, 0};
    threads[thread].wait = NOTHING;
    swapcontext(&scheduler, &threads[thread].context);
}
// All threads from `first` on go on to where they wait next, in one order or the other.
static void advance(int first, int count, bool backward) {
    for (int i = 0; i < count; ++i) go_on(backward ? first + count - 1 - i : first + i);
    for (int i = 1; i < count; ++i)
        if (threads[first + i].wait != threads[first].wait) {
            std::fprintf(stderr, "threads %d and %d of a warp wait for different things\n", first, first + i);
            std::abort();
        }
}
static void block(int count, bool backward) {
    for (int i = 0; i < (1 << 16); ++i) {
        const float nan = std::numeric_limits<float>::quiet_NaN();
        shared[i] = {nan, nan, nan, nan};
    }
    threads.resize(count);
    for (Thread& thread : threads) {
        thread.stack.resize(1 << 16);
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.data();
        thread.context.uc_stack.ss_size = thread.stack.size();
        thread.context.uc_link = nullptr;
        makecontext(&thread.context, run, 0);
        thread.fetched = {{}};
    }
    bool ended = false;
    while (!ended) {
        for (int i = 0; i < count; i += 32) {
            const int first = backward ? (count - 1 - i) / 32 * 32 : i, width = std::min(32, count - first);
            do advance(first, width, backward);
            while (threads[first].wait == WARP);
        }
        for (Thread& thread : threads)
            if (thread.wait != threads[0].wait) {
                std::fprintf(stderr, "some threads have ended, and others wait for them\n");
                std::abort();
            }
        ended = threads[0].wait == END;
    }
}
static void grid(long long blocks, long long runs, int count, bool backward, void (*function)()) {
    body = function;
    eager = backward;
    blockDim = {count, 1, 1};
    for (long long y = 0; y < runs; ++y)
        for (long long x = 0; x < blocks; ++x) {
            blockIdx = {x, y, 0};
            block(count, backward);
        }
}
}  // namespace emulator

static inline void __syncwarp() { emulator::wait(emulator::WARP); }
static inline void __syncthreads() { emulator::wait(emulator::BLOCK); }
static inline float __shfl_xor_sync(unsigned, float value, int other) {
    emulator::threads[emulator::current].lent = value;
    __syncwarp();
    const float found = emulator::threads[emulator::current ^ other].lent;
    __syncwarp();
    return found;
}
static inline void fetch(float* to, const float* from) {
    if (emulator::eager) *to = *from;
    else emulator::threads[emulator::current].fetched.back().push_back({to, from});
}
static inline void close_group() { emulator::threads[emulator::current].fetched.emplace_back(); }
template <int left> static inline void await() {
    auto& fetched = emulator::threads[emulator::current].fetched;
    for (; fetched.size() > left + 1; fetched.erase(fetched.begin()))
        for (const auto& copy : fetched.front()) *copy.to = *copy.from;
}
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
#define rsqrtf(x) (1 / sqrtf(x))
#ifdef DOUBLE
#define F(number) number
#define expf exp
#define logf log
#define log1pf log1p
#define expm1f expm1
#define tanhf tanh
#define sinf sin
#define cosf cos
#define erff erf
#define powf pow
#define sqrtf sqrt
#define fabsf fabs
#else
#define F(number) number##f
#endif
static inline float logistic(float x) { return 1 / (1 + expf(-x)); }
