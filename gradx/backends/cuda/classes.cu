// Losses over classes, and their gradients. After slices.cu.

#if defined(CROSS_ENTROPY)

// For each slice of logits the loss of its target class, the weight of that, the largest logit, and the logarithm of the sum
// of exponentials of the distances to it. A target that is no class gives NaN. `weight` may be null. sums[1] is the sum of
// the weights of all classes.
KERNEL cross_entropy(const T* __restrict__ x, const TARGET* __restrict__ target, const T* __restrict__ weight,
                     A* __restrict__ losses, A* __restrict__ weights, A* __restrict__ tops, A* __restrict__ log_sums,
                     A* __restrict__ sums, SLICES, Index ignored, double smoothing STRIDES(x) STRIDES(target)) {
    FOR_EACH_SLICE {
        const Index slice = first + team;
        const Share share = WHOLE_SLICE;
        const Slice xs(x, PLACE(x), slice, share);
        const A top = LARGEST(xs.get(start, i, k));
        const A log_sum = log(SUM(exp(xs.get(start, i, k) - top)));
        const A spread = SMOOTH ? SUM((log_sum - (xs.get(start, i, k) - top)) * (weight ? (A)weight[k] : (A)1)) : (A)0;
        A classes = n;
        if (SMOOTH && weight && first == 0) classes = SUM((A)weight[k]);
        if (lane == 0 && slice < slices) {
            const Index label = target[LABEL_OF(slice)];
            const bool counts = label != ignored, inside = 0 <= label && label < n;
            const A own = !counts ? (A)0 : !inside ? (A)CUDART_NAN_F : weight ? (A)weight[label] : (A)1;
            const A loss = counts && inside ? own * (log_sum - (xs.at(label) - top)) : own;
            losses[slice] = counts ? loss * (A)(1 - smoothing) + spread * (A)(smoothing / n) : (A)0;
            weights[slice] = own;
            if (slice == 0) sums[1] = classes;
            tops[slice] = top;
            log_sums[slice] = log_sum;
        }
    }
}

#elif defined(CROSS_ENTROPY_BACKWARD)

// g times (softmax - the target's distribution), weighted; without TARGETS the part with the softmax alone. `g_stride` is 0
// where all slices have one g. sums[0] is the sum of the weights that count, sums[1] that of all classes'.
KERNEL cross_entropy_backward(const T* __restrict__ x, const TARGET* __restrict__ target, const T* __restrict__ weight,
                              const GRADIENT* __restrict__ g, const A* __restrict__ tops, const A* __restrict__ log_sums,
                              const A* __restrict__ sums, T* __restrict__ grad, SLICES, Index ignored, double smoothing,
                              Index g_stride STRIDES(x) STRIDES(target)) {
    FOR_EACH_SLICE {
        const Index slice = first + team, base = rows.begin(slice);
        const Share share = WHOLE_SLICE;
        if (share.end == 0) continue;
        const Stream xs(x, PLACE(x), slice);
        const Index label = target[LABEL_OF(slice)];
        const bool counts = label != ignored, inside = 0 <= label && label < n;
        const A own = !counts ? (A)0 : !inside ? (A)CUDART_NAN_F : weight ? (A)weight[label] : (A)1;
        const A scale = (A)g[slice * g_stride] / (MEAN ? sums[0] : (A)1);
        const A hard = own * (A)(1 - smoothing), spread = smoothing / n, mass = SMOOTH ? hard + spread * sums[1] : hard;
        const A top = tops[slice], log_sum = log_sums[slice];
        CHUNKS ELEMENTS {
            A slope = exp(xs.at(k) - top - log_sum) * mass;
            if (TARGETS && k == label) slope -= hard;
            if (TARGETS && SMOOTH) slope -= weight ? (A)weight[k] * spread : spread;
            grad[base + rows.at(k)] = (T)(counts ? slope * scale : (A)0);
        }
    }
}

#elif defined(SOFT_CROSS_ENTROPY)

// For each slice of logits x the cross entropy with its distribution over the classes, the mass of that (each weighted), the
// largest logit, and the logarithm of the sum of exponentials of the distances to it. `weight` may be null.
KERNEL soft_cross_entropy(const T* __restrict__ x, const T* __restrict__ target, const T* __restrict__ weight,
                          RESULT* __restrict__ losses, A* __restrict__ masses, A* __restrict__ tops,
                          A* __restrict__ log_sums, SLICES, double smoothing STRIDES(x) STRIDES(target)) {
    const A certain = 1 - smoothing, spread = smoothing / n;
    FOR_EACH_SLICE {
        const Index slice = first + team;
        const Share share = WHOLE_SLICE;
        const Slice xs(x, PLACE(x), slice, share);
        const Stream targets(target, PLACE(target), slice);
        const A top = LARGEST(xs.get(start, i, k));
        const A log_sum = log(SUM(exp(xs.get(start, i, k) - top)));
        A mass = 0;
        const A loss = SUM([&](A q) {
            mass += q;
            return q * (log_sum - (xs.get(start, i, k) - top));
        }((targets.at(k) * certain + spread) * (weight ? (A)weight[k] : (A)1)));
        mass = team_reduce<Sum>(mass, team, lane);
        if (lane == 0 && slice < slices) {
            losses[slice] = (RESULT)loss;
            masses[slice] = mass;
            tops[slice] = top;
            log_sums[slice] = log_sum;
        }
    }
}

#elif defined(SOFT_CROSS_ENTROPY_BACKWARD)

// The gradient of the logits x, or that of the target (FOR_TARGET), for which no masses are needed. `g_stride` as above.
KERNEL soft_cross_entropy_backward(const T* __restrict__ x, const T* __restrict__ target, const T* __restrict__ weight,
                                   const GRADIENT* __restrict__ g, const A* __restrict__ masses, const A* __restrict__ tops,
                                   const A* __restrict__ log_sums, T* __restrict__ grad, SLICES, double smoothing,
                                   double factor, Index g_stride STRIDES(x) STRIDES(target)) {
    const A certain = 1 - smoothing, spread = smoothing / n;
    FOR_EACH_SLICE {
        const Index slice = first + team, base = rows.begin(slice);
        const Share share = WHOLE_SLICE;
        if (share.end == 0) continue;
        const Stream xs(x, PLACE(x), slice), targets(target, PLACE(target), slice);
        const A scale = (A)g[slice * g_stride] * (A)factor, top = tops[slice], log_sum = log_sums[slice];
        const A mass = FOR_TARGET ? (A)0 : masses[slice];
        CHUNKS ELEMENTS {
            const A by_class = weight ? (A)weight[k] : (A)1, log_chance = xs.at(k) - top - log_sum;
            const A slope = FOR_TARGET ? -by_class * certain * log_chance
                                       : exp(log_chance) * mass - by_class * (targets.at(k) * certain + spread);
            grad[base + rows.at(k)] = (T)(slope * scale);
        }
    }
}

#elif defined(WEIGHTED)

// The sums of n losses and of their weights over each of `slices` shares; with MEAN their ratio in the place of the first.
KERNEL weighted(const T* __restrict__ losses, const T* __restrict__ weights, RESULT* __restrict__ loss, T* __restrict__ total,
                SLICES) {
    const Index length = (n + slices - 1) / slices;
    FOR_EACH_SLICE {
        const Index slice = first + team, begin = min(slice * length, n);
        const Share share = {team, lane, begin, slice < slices ? min(begin + length, n) : begin, kept};
        const Stream as(losses, rows, 0), bs(weights, rows, 0);
        const A a = SUM(as.at(k)), b = SUM(bs.at(k));
        if (lane == 0 && slice < slices) {
            loss[slice] = (RESULT)(MEAN ? a / b : a);
            total[slice] = b;
        }
    }
}

#endif
