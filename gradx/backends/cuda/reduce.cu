// Sums of a term over slices, or over shares of them. After slices.cu.

__device__ A square(A x) { return x * x; }
__device__ A clamp(Index rest, Index most) { return rest < 0 ? 0 : rest < most ? rest : most; }

#if defined(DISTANCE)
#define OTHER STRIDES(other)
#else
#define OTHER
#endif

// Sums a term over each of `splits` shares of every slice, divides by `divisor`, and takes a root where asked to.
// `other` is a second operand like x (DISTANCE), one value for each slice (TIES), or the squares that belong to the means x
// (MERGE). The means of VARIANCE and MERGE go to `means`. `whole` is the length of the slices that MERGE puts together.
KERNEL reduce(const T* __restrict__ x, const void* __restrict__ other, RESULT* __restrict__ out, A* __restrict__ means,
              SLICES, Index splits, Index whole, double divisor, double p STRIDES(x) OTHER) {
    const Index length = (n + splits - 1) / splits;
    FOR_EACH_SLICE {
        const Index slice = first + team;
        const Index split = slice / inner % splits, row = slice / inner / splits * inner + slice % inner;
        const Index begin = min(split * length, n);
        const Share share = {team, lane, begin, slice < slices ? min(begin + length, n) : begin, kept};
#if defined(TOTAL)
        const Stream xs(x, PLACE(x), row);
        A sum = SUM(xs.at(k));
#elif defined(POWER)
        const Stream xs(x, PLACE(x), row);
        A sum = SUM(p == 2 ? square(xs.at(k)) : pow(fabs(xs.at(k)), (A)p));
#elif defined(DISTANCE)
        const Stream xs(x, PLACE(x), row), others((const T*)other, PLACE(other), row);
        A sum = SUM(square(xs.at(k) - others.at(k)));
#elif defined(TIES)
        const Stream xs(x, PLACE(x), row);
        const A value = share.begin < share.end ? (A)((const T*)other)[row] : (A)0;
        A sum = SUM((xs.at(k) == value || (value != value && xs.at(k) != xs.at(k))));
#elif defined(VARIANCE)
        const Slice xs(x, PLACE(x), row, share);
        const Index count = share.end - share.begin;
        const A near = SUM(xs.get(start, i, k)) / (count ? count : 1);
        // Without its rounding error: where all are equal, their spread is exactly 0, and so is the gradient of std.
        const A centre = near + SUM(xs.get(start, i, k) - near) / (count ? count : 1);
        A sum = SUM(square(xs.get(start, i, k) - centre));
        if (lane == 0 && slice < slices) means[slice] = n ? centre : (A)CUDART_NAN_F;
#elif defined(MERGE)  // Chan, Golub and LeVeque, 1979
        const Index most = (whole + n - 1) / n;  // the length of each share but the last ones
        const Slice xs(x, PLACE(x), row, share);
        const Stream squares((const T*)other, PLACE(other), row);
        const A near = SUM(xs.get(start, i, k) * clamp(whole - k * most, most)) / whole;
        const A centre = near + SUM((xs.get(start, i, k) - near) * clamp(whole - k * most, most)) / whole;
        A sum = SUM(squares.at(k) + square(xs.get(start, i, k) - centre) * clamp(whole - k * most, most));
        if (lane == 0 && slice < slices) means[slice] = centre;
#elif defined(LOGSUMEXP)
        const Slice xs(x, PLACE(x), row, share);
        const A largest = LARGEST(xs.get(start, i, k)), top = isfinite(largest) ? largest : (A)0;
        A sum = log(SUM(exp(xs.get(start, i, k) - top))) + top;
#endif
        sum /= divisor;
        if (ROOT) sum = p == 2 ? sqrt(sum) : pow(sum, (A)(1 / p));
        if (lane == 0 && slice < slices) out[slice] = (RESULT)sum;
    }
}
