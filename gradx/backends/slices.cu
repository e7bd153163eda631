// CUDA kernels that combine the elements along one dimension: softmax, its gradient, and reductions.
//
// An array is seen as (outer, n, inner); a slice is the n elements for one outer and one inner index. A team of LANES
// threads works on one slice, and a block holds TEAMS teams. Each thread keeps ITEMS elements of each operand in
// registers, so slices of up to LANES * ITEMS elements are read once; what is beyond is read again in each pass. With
// COLUMNS (inner > 1) neighbouring threads take neighbouring slices, otherwise neighbouring elements of one slice:
// either way the accesses of a warp lie side by side.
//
// Compiled for one kernel (its name in capitals is defined), one dtype and one shape of team at a time.

#include <cuda_fp16.h>
#ifdef BFLOAT16
#include <cuda_bf16.h>
#endif
#include <math_constants.h>

typedef ELEMENT T;      // __half, __nv_bfloat16, float or double
typedef ACCUMULATOR A;  // float or double
typedef long long Index;
constexpr int WARP = 32;
constexpr int FEW = 8;  // terms that are added one after the other; longer sums are sums of sums, to keep their digits
constexpr int PARTS = COLUMNS ? LANES : (LANES + WARP - 1) / WARP;  // what a team leaves in shared memory

// `x`, of which the compiler knows nothing more: what follows from it is computed again in each pass, not kept in registers.
__device__ __forceinline__ Index hidden(Index x) { asm volatile("" : "+l"(x)); return x; }

struct Sum { static __device__ A apply(A a, A b) { return a + b; } };
struct Max { static __device__ A apply(A a, A b) { return a > b ? a : b; } };

// The values of all lanes of the calling thread's team, combined. Every thread of the block must call it.
template <typename Op> __device__ A team_reduce(A value, int team, int lane) {
    if (!COLUMNS) {
        for (int offset = (LANES < WARP ? LANES : WARP) / 2; offset > 0; offset /= 2)
            value = Op::apply(value, __shfl_xor_sync(0xffffffffu, value, offset));
    }
    if (PARTS == 1) return value;
    __shared__ A parts[PARTS * TEAMS];
    __syncthreads();  // the previous reduction has been read
    if (COLUMNS) parts[lane * TEAMS + team] = value;
    else if (lane % WARP == 0) parts[lane / WARP * TEAMS + team] = value;
    __syncthreads();
    for (int i = 0; i < PARTS; i += FEW) {
        A some = parts[i * TEAMS + team];
        for (int j = i + 1; j < PARTS && j < i + FEW; ++j) some = Op::apply(some, parts[j * TEAMS + team]);
        value = i == 0 ? some : Op::apply(value, some);
    }
    return value;
}

// A lane's elements of one slice: the first ITEMS in registers, the others in memory.
struct Slice {
    const T* data;
    Index inner;
    A held[ITEMS];

    __device__ Slice(const T* data, Index size, Index inner, int lane) : data(data), inner(inner) {
#pragma unroll
        for (int i = 0; i < ITEMS; ++i) {
            const Index k = (Index)i * LANES + lane;
            held[i] = k < size ? (A)data[k * inner] : (A)0;
        }
    }
    // Element k = start + i * LANES + lane. Since loops over i are unrolled, `held` stays in registers.
    __device__ A get(Index start, int i, Index k) const { return start == 0 ? held[i] : (A)data[k * inner]; }
};

// CHUNKS ELEMENTS visits the lane's elements k.
#define CHUNKS for (Index start = 0; start < size; start += (Index)LANES * ITEMS)
#define ELEMENTS_FROM(begin, end) _Pragma("unroll") for (int i = begin; i < end; ++i) \
    if (const Index k = hidden(start) + (Index)i * LANES + lane; k < size)
#define ELEMENTS ELEMENTS_FROM(0, ITEMS)
#define SUM(term) [&] { \
        A sum = 0; \
        CHUNKS { \
            A part = 0; \
            _Pragma("unroll") for (int few = 0; few < ITEMS; few += FEW) { \
                A some = 0; \
                ELEMENTS_FROM(few, (few + FEW < ITEMS ? few + FEW : ITEMS)) some += term; \
                part += some; \
            } \
            sum += part; \
        } \
        return team_reduce<Sum>(sum, team, lane); \
    }()

// The teams' places, and the loop over slices. All teams of a block take part in every turn, for the barriers.
#define FOR_EACH_SLICE \
    const int team = COLUMNS ? threadIdx.x % TEAMS : threadIdx.x / LANES; \
    const int lane = COLUMNS ? threadIdx.x / TEAMS : threadIdx.x % LANES; \
    for (Index first = (Index)blockIdx.x * TEAMS; first < slices; first += (Index)gridDim.x * TEAMS)

#if defined(SOFTMAX)

extern "C" __global__ void __launch_bounds__(LANES * TEAMS, 1)
softmax(const T* __restrict__ x, T* __restrict__ out, Index slices, Index n, Index inner) {
    FOR_EACH_SLICE {
        const Index slice = first + team, size = slice < slices ? n : 0;
        const Index base = slice / inner * n * inner + slice % inner;
        const Slice xs(x + base, size, inner, lane);
        A top = -(A)CUDART_INF_F;  // a NaN need not win: exp(NaN - top) makes the sum NaN
        CHUNKS ELEMENTS top = Max::apply(top, xs.get(start, i, k));
        top = team_reduce<Max>(top, team, lane);
        const A sum = SUM(exp(xs.get(start, i, k) - top));
        const A log_sum = LOG ? log(sum) : (A)0;
        CHUNKS ELEMENTS {
            const A shifted = xs.get(start, i, k) - top;
            out[base + k * inner] = (T)(LOG ? shifted - log_sum : exp(shifted) / sum);
        }
    }
}

#elif defined(SOFTMAX_BACKWARD)

extern "C" __global__ void __launch_bounds__(LANES * TEAMS, 1)
softmax_backward(const T* __restrict__ g, const T* __restrict__ out, T* __restrict__ grad,
                 Index slices, Index n, Index inner) {
    FOR_EACH_SLICE {
        const Index slice = first + team, size = slice < slices ? n : 0;
        const Index base = slice / inner * n * inner + slice % inner;
        const Slice gs(g + base, size, inner, lane), outs(out + base, size, inner, lane);
        const A sum = SUM(LOG ? gs.get(start, i, k) : gs.get(start, i, k) * outs.get(start, i, k));
        CHUNKS ELEMENTS {
            const A gk = gs.get(start, i, k), yk = outs.get(start, i, k);
            grad[base + k * inner] = (T)(LOG ? gk - exp(yk) * sum : yk * (gk - sum));
        }
    }
}

#elif defined(REDUCE)

__device__ A square(A x) { return x * x; }
__device__ A clamp(Index rest, Index most) { return rest < 0 ? 0 : rest < most ? rest : most; }

// Sums a term over each of `splits` shares of every slice, divides by `divisor`, and takes a root where asked to.
// `other` is a second operand like x (DISTANCE), one value for each slice (TIES), or the squares that belong to the means x
// (MERGE). The means of VARIANCE and MERGE go to `means`. `whole` is the length of the slices that MERGE puts together.
extern "C" __global__ void __launch_bounds__(LANES * TEAMS, 1)
reduce(const T* __restrict__ x, const void* __restrict__ other, RESULT* __restrict__ out, A* __restrict__ means,
       Index slices, Index n, Index inner, Index splits, Index whole, double divisor, double p) {
    const Index share = (n + splits - 1) / splits;
    FOR_EACH_SLICE {
        const Index slice = first + team;
        const Index column = slice % inner, split = slice / inner % splits, outer = slice / inner / splits;
        const Index begin = min(split * share, n), size = slice < slices ? min(share, n - begin) : 0;
        const Index base = (outer * n + begin) * inner + column;
        const Slice xs(x + base, size, inner, lane);
#if defined(TOTAL)
        A sum = SUM(xs.get(start, i, k));
#elif defined(POWER)
        A sum = SUM(p == 2 ? square(xs.get(start, i, k)) : pow(fabs(xs.get(start, i, k)), (A)p));
#elif defined(DISTANCE)
        const Slice others((const T*)other + base, size, inner, lane);
        A sum = SUM(square(xs.get(start, i, k) - others.get(start, i, k)));
#elif defined(TIES)
        const A value = size ? (A)((const T*)other)[outer * inner + column] : (A)0;
        A sum = SUM((xs.get(start, i, k) == value || (xs.get(start, i, k) != xs.get(start, i, k) && value != value)));
#elif defined(VARIANCE)
        const A centre = SUM(xs.get(start, i, k)) / (size ? size : 1);
        A sum = SUM(square(xs.get(start, i, k) - centre));
        if (lane == 0 && slice < slices) means[slice] = n ? centre : (A)CUDART_NAN_F;
#elif defined(MERGE)  // Chan, Golub and LeVeque, 1979
        const Index length = (whole + n - 1) / n;  // of each share but the last ones
        const Slice squares((const T*)other + base, size, inner, lane);
        const A centre = SUM(xs.get(start, i, k) * clamp(whole - k * length, length)) / whole;
        A sum = SUM(squares.get(start, i, k) + square(xs.get(start, i, k) - centre) * clamp(whole - k * length, length));
        if (lane == 0 && slice < slices) means[slice] = centre;
#elif defined(LOGSUMEXP)
        A top = -(A)CUDART_INF_F;
        CHUNKS ELEMENTS top = Max::apply(top, xs.get(start, i, k));
        top = team_reduce<Max>(top, team, lane);
        if (!isfinite(top)) top = 0;
        A sum = log(SUM(exp(xs.get(start, i, k) - top))) + top;
#endif
        sum /= divisor;
        if (ROOT) sum = p == 2 ? sqrt(sum) : pow(sum, (A)(1 / p));
        if (lane == 0 && slice < slices) out[slice] = (RESULT)sum;
    }
}

#elif defined(CROSS_ENTROPY)

// For each slice of logits the loss of its target class, the weight of that, the largest logit, and the logarithm of the sum
// of exponentials of the distances to it. A target that is no class gives NaN. `weight` may be null. sums[1] is the sum of
// the weights of all classes.
extern "C" __global__ void __launch_bounds__(LANES * TEAMS, 1)
cross_entropy(const T* __restrict__ x, const TARGET* __restrict__ target, const T* __restrict__ weight,
              A* __restrict__ losses, A* __restrict__ weights, A* __restrict__ tops, A* __restrict__ log_sums,
              A* __restrict__ sums, Index slices, Index n, Index inner, Index ignored, double smoothing) {
    FOR_EACH_SLICE {
        const Index slice = first + team, size = slice < slices ? n : 0;
        const Index base = slice / inner * n * inner + slice % inner;
        const Slice xs(x + base, size, inner, lane);
        A top = -(A)CUDART_INF_F;
        CHUNKS ELEMENTS top = Max::apply(top, xs.get(start, i, k));
        top = team_reduce<Max>(top, team, lane);
        const A log_sum = log(SUM(exp(xs.get(start, i, k) - top)));
        const A classes = SMOOTH ? SUM(weight ? (A)weight[k] : (A)1) : (A)n;
        const A spread = SMOOTH ? SUM((log_sum - (xs.get(start, i, k) - top)) * (weight ? (A)weight[k] : (A)1)) : (A)0;
        if (lane == 0 && slice < slices) {
            const Index label = target[slice];
            const bool counts = label != ignored, inside = 0 <= label && label < n;
            const A own = !counts ? (A)0 : !inside ? (A)CUDART_NAN_F : weight ? (A)weight[label] : (A)1;
            const A loss = counts && inside ? own * (log_sum - ((A)x[base + label * inner] - top)) : own;
            losses[slice] = counts ? loss * (A)(1 - smoothing) + spread * (A)(smoothing / n) : (A)0;
            weights[slice] = own;
            if (slice == 0) sums[1] = classes;
            tops[slice] = top;
            log_sums[slice] = log_sum;
        }
    }
}

#elif defined(WEIGHTED)

// The sums of n losses and of their weights, each over `shares` equal shares; with MEAN their ratio in the place of the first.
extern "C" __global__ void __launch_bounds__(LANES * TEAMS, 1)
weighted(const T* __restrict__ losses, const T* __restrict__ weights, RESULT* __restrict__ loss, T* __restrict__ total,
         Index n, Index shares) {
    const Index slices = shares, inner = 1, share = (n + shares - 1) / shares;
    FOR_EACH_SLICE {
        const Index slice = first + team, begin = min(slice * share, n), size = slice < slices ? min(share, n - begin) : 0;
        const Slice as(losses + begin, size, inner, lane), bs(weights + begin, size, inner, lane);
        const A a = SUM(as.get(start, i, k)), b = SUM(bs.get(start, i, k));
        if (lane == 0 && slice < slices) {
            loss[slice] = (RESULT)(MEAN ? a / b : a);
            total[slice] = b;
        }
    }
}

#endif
