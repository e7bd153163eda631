// softmax and log_softmax, and their gradients. After slices.cu.

#if defined(SOFTMAX)

KERNEL softmax(const T* __restrict__ x, T* __restrict__ out, SLICES STRIDES(x)) {
    FOR_EACH_SLICE {
        const Index slice = first + team, base = rows.begin(slice);
        const Share share = WHOLE_SLICE;
        const Slice xs(x, PLACE(x), slice, share);
        const A top = LARGEST(xs.get(start, i, k));  // a NaN need not win: exp(NaN - top) makes the sum NaN
        const A sum = SUM(exp(xs.get(start, i, k) - top));
        const A log_sum = LOG ? log(sum) : (A)0;
        CHUNKS ELEMENTS {
            const A shifted = xs.get(start, i, k) - top;
            out[base + rows.at(k)] = (T)(LOG ? shifted - log_sum : exp(shifted) / sum);
        }
    }
}

#elif defined(SOFTMAX_BACKWARD)

KERNEL softmax_backward(const T* __restrict__ g, const T* __restrict__ out, T* __restrict__ grad,
                        SLICES STRIDES(g) STRIDES(out)) {
    FOR_EACH_SLICE {
        const Index slice = first + team, base = rows.begin(slice);
        const Share share = WHOLE_SLICE;
        const Slice gs(g, PLACE(g), slice, share, 0);
#if LOG
        const Stream outs(out, PLACE(out), slice);
        const A sum = SUM(gs.get(start, i, k));
        CHUNKS ELEMENTS grad[base + rows.at(k)] = (T)(gs.get(start, i, k) - exp(outs.at(k)) * sum);
#else
        const Slice outs(out, PLACE(out), slice, share, 1);
        const A sum = SUM(gs.get(start, i, k) * outs.get(start, i, k));
        CHUNKS ELEMENTS grad[base + rows.at(k)] = (T)(outs.get(start, i, k) * (gs.get(start, i, k) - sum));
#endif
    }
}

#endif
