// What the CUDA kernels share that combine elements along dimensions. Their sources (softmax.cu, reduce.cu, classes.cu) follow
// this one.
//
// An array is seen as (outer, n, inner); a slice is the n elements for one outer and one inner index. A team of LANES
// threads works on one slice, and a block holds TEAMS teams. With COLUMNS (inner > 1) neighbouring threads take neighbouring
// slices, otherwise neighbouring elements of one slice: either way the accesses of a warp lie side by side.
//
// What a kernel needs in several passes it reads once: each thread keeps its first ITEMS elements in registers, and the next
// ones, where blocks are full (BEYOND), in shared memory, `kept` of each slice. What is beyond is read again in each pass.
//
// Inputs that are not contiguous are read where they lie: kernels compiled with STRIDED > 0 take their strides.
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
static_assert(sizeof(Index) == 8, "arrays may have more than 2^31 elements");
constexpr int WARP = 32;
constexpr int FEW = 8;  // terms that are added one after the other; longer sums are sums of sums, to keep their digits
constexpr int APART = COLUMNS ? TEAMS : 1;  // threads from one lane of a team to the next
constexpr int NEAR = APART >= WARP ? 1 : LANES * APART < WARP ? LANES : WARP / APART;  // lanes of a team in one warp
constexpr int PARTS = LANES / NEAR;           // what a team leaves in shared memory
constexpr Index HELD = (Index)LANES * ITEMS;  // elements of a slice in registers

// `x`, of which the compiler knows nothing more: what follows from it is computed again in each pass, not kept in registers.
__device__ __forceinline__ Index hidden(Index x) { asm volatile("" : "+l"(x)); return x; }

struct Sum { static __device__ A apply(A a, A b) { return a + b; } };
struct Max { static __device__ A apply(A a, A b) { return a > b ? a : b; } };

__shared__ A parts[PARTS * TEAMS];
extern __shared__ __align__(16) unsigned char memory[];  // as much as the launch asks for

// The values of all lanes of the calling thread's team, combined. Every thread of the block must call it.
template <typename Op> __device__ A team_reduce(A value, int team, int lane) {
    for (int offset = NEAR / 2; offset > 0; offset /= 2)
        value = Op::apply(value, __shfl_xor_sync(0xffffffffu, value, offset * APART));
    if (PARTS == 1) return value;
    __syncthreads();  // the previous reduction has been read
    if (lane % NEAR == 0) parts[lane / NEAR * TEAMS + team] = value;
    __syncthreads();
    for (int i = 0; i < PARTS; i += FEW) {
        A some = parts[i * TEAMS + team];
        for (int j = i + 1; j < PARTS && j < i + FEW; ++j) some = Op::apply(some, parts[j * TEAMS + team]);
        value = i == 0 ? some : Op::apply(value, some);
    }
    return value;
}

// ---- where elements lie ----------------------------------------------------------------------------------------------

// Of a contiguous array, slice s begins at begin(s), and element k of any slice is at(k) from there.
struct Contiguous {
    Index n, inner;
    __device__ Index begin(Index slice) const { return slice / inner * n * inner + slice % inner; }
    __device__ Index at(Index k) const { return k * inner; }
};

// Dimensions in the order in which their elements are counted, the last first.
struct Dimensions {
    Index count, shape[DIMENSIONS], stride[DIMENSIONS];

    __device__ Index at(Index i, int dimensions) const {
        Index place = 0;
        for (int d = dimensions - 1; d > 0; --d) {
            // Divisions of 64 bits take several times as long as those of 32.
            const Index rest = (i | shape[d]) >> 32 ? i / shape[d] : (unsigned)i / (unsigned)shape[d];
            place += (i - rest * shape[d]) * stride[d];
            i = rest;
        }
        return place + i * stride[0];
    }
};

// The same for an array of any strides: the dimensions that tell slices apart, and those along a slice, STRIDED of them.
struct Strided {
    Dimensions slices, elements;
    __device__ Index begin(Index slice) const { return slices.at(slice, slices.count); }
    __device__ Index at(Index k) const { return elements.at(k, STRIDED); }
};

// The parameters of each kernel after its arrays, and after all others the strides of its inputs; in its body, what says
// where an input's elements lie.
#define SLICES Index slices, Index n, Index inner, Index kept
#if STRIDED
#define STRIDES(input) , const Strided input##_strides
#define PLACE(input) input##_strides
#define LABEL_OF(slice) target_strides.begin(slice)
#else
#define STRIDES(input)
#define PLACE(input) rows
#define LABEL_OF(slice) slice
#endif

// ---- the elements of one slice ---------------------------------------------------------------------------------------

// A thread's share of the work: elements lane, lane + LANES, ... from `begin` on, below `end`, of one slice.
struct Share {
    int team, lane;
    Index begin, end, kept;
};

// Elements that are read from memory wherever they are asked for.
template <typename Place> struct Stream {
    const T* data;
    const Place& place;

    __device__ Stream(const T* array, const Place& place, Index slice) : data(array + place.begin(slice)), place(place) {}
    __device__ A at(Index k) const { return (A)data[place.at(k)]; }
    __device__ A get(Index, int, Index k) const { return at(k); }
};

// Elements that are read from memory once: the first in registers, some in shared memory, the others streamed. A thread
// reads only what it has written there itself. `number` tells a kernel's slices apart, from 0.
template <typename Place> struct Slice : Stream<Place> {
    const Share& share;
    T* beyond;
    A held[ITEMS];

    __device__ Slice(const T* array, const Place& place, Index slice, const Share& share, int number = 0)
        : Stream<Place>(array, place, slice), share(share) {
#pragma unroll
        for (int i = 0; i < ITEMS; ++i) {
            const Index k = share.begin + (Index)i * LANES + share.lane;
            held[i] = k < share.end ? this->at(k) : (A)0;
        }
#if BEYOND
        beyond = (T*)memory + number * share.kept * TEAMS + share.team;
        const Index first = share.begin + HELD, last = min(share.end, first + share.kept);
#pragma unroll 4
        for (Index k = first + share.lane; k < last; k += LANES) beyond[(k - first) * TEAMS] = this->data[place.at(k)];
#endif
    }
    // Element k = start + i * LANES + lane. Since loops over i are unrolled, `held` stays in registers.
    __device__ A get(Index start, int i, Index k) const {
        if (start == share.begin) return held[i];
#if BEYOND
        const Index later = k - share.begin - HELD;
        if (later < share.kept) return (A)beyond[later * TEAMS];
#endif
        return this->at(k);
    }
};

// CHUNKS ELEMENTS visits the lane's elements k.
#define CHUNKS for (Index start = share.begin; start < share.end; start += HELD)
#define ELEMENTS_FROM(first, last) _Pragma("unroll") for (int i = first; i < last; ++i) \
    if (const Index k = hidden(start) + (Index)i * LANES + lane; k < share.end)
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
#define LARGEST(term) [&] { \
        A top = -(A)CUDART_INF_F; \
        CHUNKS ELEMENTS top = Max::apply(top, term); \
        return team_reduce<Max>(top, team, lane); \
    }()

// The teams' places, and the loop over slices. All teams of a block take part in every turn, for the barriers.
#define FOR_EACH_SLICE \
    const Contiguous rows = {n, inner}; \
    const int team = COLUMNS ? threadIdx.x % TEAMS : threadIdx.x / LANES; \
    const int lane = COLUMNS ? threadIdx.x / TEAMS : threadIdx.x % LANES; \
    for (Index first = (Index)blockIdx.x * TEAMS; first < slices; first += (Index)gridDim.x * TEAMS)
#define WHOLE_SLICE {team, lane, 0, slice < slices ? n : 0, kept}
#define KERNEL extern "C" __global__ void __launch_bounds__(LANES * TEAMS, 1)
