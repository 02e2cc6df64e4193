// Written by build_shaders.py from shaders/expert_down.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, uint A>
inline void spvArrayCopyFromStackToStack1(thread T (&dst)[A], thread const T (&src)[A])
{
    for (uint i = 0; i < A; i++)
    {
        dst[i] = src[i];
    }
}

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Weights
{
    uint4 weights[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant uint _564 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _567 = (THREADS * TOKENS);
constant uint _568 = (_567 * 2u);
constant uint _593 = (64u * TOKENS);
constant uint _629 = (64u * TOKENS);
constant bool _681 = (TOKENS > 1u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint expert_vectors;
    uint first_expert;
    uint experts;
    uint rows;
    uint cols;
    uint x_stride;
    uint y_stride;
    uint all_experts;
    uint classes;
    uint flags;
    uint residual_stride;
};

constant uint _742 = (TOKENS * 2u);

struct Route
{
    uint route[1];
};

constant uint _860 = (1u << TOKENS);
constant uint _861 = (_860 - 1u);
constant uint _874 = (64u * TOKENS);
constant bool _965 = (TOKENS == 1u);
constant int _966 = _965 ? 8 : 4;
constant uint _967 = (uint(_966) + 0u);
constant bool _985 = (TOKENS == 1u);
constant bool _1039 = (TOKENS == 1u);

struct X
{
    float4 x[1];
};

constant bool _1091 = (TOKENS == 1u);
constant int _1092 = _1091 ? 8 : 4;
constant uint _1093 = (uint(_1092) + 0u);
constant bool _1098 = (TOKENS != 1u);
constant bool _1134 = (TOKENS != 1u);
constant bool _1189 = (TOKENS == 1u);
constant bool _1414 = (TOKENS == 1u);
constant int _1415 = _1414 ? 8 : 4;
constant uint _1416 = (uint(_1415) + 0u);
constant uint _1441 = (8u * TOKENS);

struct Y
{
    float y[1];
};

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1511 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1511, 1u, 1u);

kernel void expert_down_int8_fp16(constant Push& p [[buffer(0)]], const device Weights& _134 [[buffer(1)]], const device X& _1058 [[buffer(2)]], device Y& _1480 [[buffer(3)]], const device Route& _761 [[buffer(4)]], const device Step& _688 [[buffer(5)]], const device Residual& _1496 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_568];
    threadgroup float chunk_sums[_629];
    threadgroup uint counts[8];
    threadgroup uint slot_expert[64];
    threadgroup uint slot_mask[64];
    threadgroup float slot_weight[_874];
    do
    {
        uint _680 = gl_WorkGroupID.y * TOKENS;
        bool _692;
        if (_681)
        {
            _692 = _680 >= _688.step_[0];
        }
        else
        {
            _692 = _681;
        }
        if (_692)
        {
            break;
        }
        uint _1523 = ((p.cols + 7u) / 8u) * 4u;
        uint _710 = THREADS / p.classes;
        uint _714 = gl_LocalInvocationID.x / _710;
        uint _718 = 64u / p.classes;
        uint _1531 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _734 = 16u + ((_1531 * p.classes) * 4u);
        float acc[16];
        for (uint _2112 = 0u; _2112 < _742; )
        {
            acc[_2112] = 0.0;
            _2112++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _761.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[8][1];
        uint pair[8];
        float4 hidden[8][2];
        uint _2124;
        for (uint _2113 = 0u, _2125 = 1u; _2113 < _1523; _2125 = _2124, _2113 += _710)
        {
            _2124 = _2125;
            uint _2214;
            for (uint _2123 = 0u; _2123 < _2124; _2124 = _2214, _2123 += _718)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _2127;
                _2127 = gl_LocalInvocationID.x;
                for (; _2127 < 64u; _2127 += THREADS)
                {
                    uint _812 = ((_2127 / _718) * _1531) + min((_2123 + (_2127 % _718)), (_1531 - 1u));
                    uint _816 = 16u + (_812 * 4u);
                    uint _822 = _761.route[_816] - p.first_expert;
                    bool _831 = _822 < p.experts;
                    slot_expert[_2127] = _831 ? _822 : 0u;
                    uint _2216;
                    if (_831)
                    {
                        _2216 = (_761.route[_816 + uint((_680 < 32u) ? 1 : 2)] >> (_680 & 31u)) & _861;
                    }
                    else
                    {
                        _2216 = 0u;
                    }
                    slot_mask[_2127] = _2216;
                    for (uint _2217 = 0u; _2217 < TOKENS; )
                    {
                        slot_weight[(_2127 * TOKENS) + _2217] = as_type<float>(_761.route[((_734 + (_812 * 64u)) + _680) + _2217]);
                        _2217++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _2214 = _2124;
                for (uint _2128 = 0u; _2128 < p.classes; )
                {
                    _2214 = max(_2214, counts[_2128]);
                    _2128++;
                    continue;
                }
                uint _920 = _2113 + (gl_LocalInvocationID.x % _710);
                uint _924 = _714 * _718;
                uint _2133;
                if ((_920 < _1523) && (counts[_714] > _2123))
                {
                    _2133 = min((counts[_714] - _2123), _718);
                }
                else
                {
                    _2133 = 0u;
                }
                for (uint _2134 = 0u; _2134 < _2133; _2134 += _1416)
                {
                    for (uint _2137 = 0u; _2137 < 8u; _2137++)
                    {
                        if (_2137 >= _967)
                        {
                            continue;
                        }
                        uint _976 = _2134 + _2137;
                        uint _980 = _924 + min(_976, (_2133 - 1u));
                        bool _1001;
                        if (!_985)
                        {
                            bool _993 = _976 < _2133;
                            bool _1000;
                            if (_993)
                            {
                                _1000 = slot_mask[_980] != 0u;
                            }
                            else
                            {
                                _1000 = _993;
                            }
                            _1001 = _1000;
                        }
                        else
                        {
                            _1001 = _985;
                        }
                        if (_1001)
                        {
                            uint _1016 = (p.first + (slot_expert[_980] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2096[1] = { _134.weights[_1016 + _920] };
                            spvArrayCopyFromStackToStack1(raw[_2137], _2096);
                            pair[_2137] = ((device uint*)&_134.weights[_1016 + _1523])[_920 & 3u];
                        }
                        if (_1039)
                        {
                            uint _1067 = ((p.first_expert + slot_expert[_980]) * 64u) * p.x_stride;
                            uint _1550 = (_920 >> uint(2)) * 2u;
                            hidden[_2137][0u] = _1058.x[_1067 + _1550];
                            hidden[_2137][1u] = _1058.x[_1067 + (_1550 + 1u)];
                        }
                    }
                    for (uint _2138 = 0u; _2138 < 8u; _2138++)
                    {
                        bool _1094 = _2138 >= _1093;
                        bool _1107;
                        if (!_1094)
                        {
                            bool _1106;
                            if (_1098)
                            {
                                _1106 = (_2134 + _2138) >= _2133;
                            }
                            else
                            {
                                _1106 = _1098;
                            }
                            _1107 = _1106;
                        }
                        else
                        {
                            _1107 = _1094;
                        }
                        if (_1107)
                        {
                            continue;
                        }
                        uint _1119 = _924 + min((_2134 + _2138), (_2133 - 1u));
                        uint _2145;
                        if ((_2134 + _2138) < _2133)
                        {
                            _2145 = slot_mask[_1119];
                        }
                        else
                        {
                            _2145 = 0u;
                        }
                        if (_1134 && (_2145 == 0u))
                        {
                            continue;
                        }
                        uint _1564 = raw[_2138][0].x ^ 2155905152u;
                        half2 _1571 = as_type<half2>((_1564 & 16711935u) | 1677747200u) - half2(half(1152.0));
                        half2 _1581 = as_type<half2>(((_1564 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                        uint _2476 = raw[_2138][0].y ^ 2155905152u;
                        half2 _2481 = as_type<half2>((_2476 & 16711935u) | 1677747200u) - half2(half(1152.0));
                        half2 _2489 = as_type<half2>(((_2476 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                        uint _2500 = raw[_2138][0].z ^ 2155905152u;
                        half2 _2505 = as_type<half2>((_2500 & 16711935u) | 1677747200u) - half2(half(1152.0));
                        half2 _2513 = as_type<half2>(((_2500 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                        uint _2524 = raw[_2138][0].w ^ 2155905152u;
                        half2 _2529 = as_type<half2>((_2524 & 16711935u) | 1677747200u) - half2(half(1152.0));
                        half2 _2537 = as_type<half2>(((_2524 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                        uint _1591 = pair[_2138] & 65535u;
                        uint _1606 = _1591 & 32767u;
                        uint _1608 = _1606 << uint(13);
                        float _1623 = (_1606 < 1024u) ? (as_type<float>(947912704u | _1608) - 6.103515625e-05) : as_type<float>(_1608 + ((_1606 < 31744u) ? 939524096u : 1879048192u));
                        float _2149;
                        if ((_1591 & 32768u) != 0u)
                        {
                            _2149 = -_1623;
                        }
                        else
                        {
                            _2149 = _1623;
                        }
                        uint _1595 = pair[_2138] >> uint(16);
                        uint _1642 = _1595 & 32767u;
                        uint _1644 = _1642 << uint(13);
                        float _1659 = (_1642 < 1024u) ? (as_type<float>(947912704u | _1644) - 6.103515625e-05) : as_type<float>(_1644 + ((_1642 < 31744u) ? 939524096u : 1879048192u));
                        float _2150;
                        if ((_1595 & 32768u) != 0u)
                        {
                            _2150 = -_1659;
                        }
                        else
                        {
                            _2150 = _1659;
                        }
                        uint _1170 = (((p.first_expert + slot_expert[_1119]) * 64u) + _680) * p.x_stride;
                        uint _2152;
                        _2152 = 0u;
                        uint _1243;
                        for (uint _2151 = 0u; _2151 < TOKENS; _2152 = _1243, _2151++)
                        {
                            float4 _2197;
                            if (_1189)
                            {
                                _2197 = hidden[_2138][0u];
                            }
                            else
                            {
                                _2197 = _1058.x[(_1170 + (_2151 * p.x_stride)) + ((_920 >> uint(2)) * 2u)];
                            }
                            float4 _2561;
                            if (_1189)
                            {
                                _2561 = hidden[_2138][1u];
                            }
                            else
                            {
                                _2561 = _1058.x[(_1170 + (_2151 * p.x_stride)) + (((_920 >> uint(2)) * 2u) + 1u)];
                            }
                            bool _1221 = ((_2145 >> _2151) & 1u) != 0u;
                            half2 _1700 = half2(_2197.xz);
                            half2 _1709 = half2(_2197.yw);
                            half2 _2574 = half2(_2561.xz);
                            half2 _2581 = half2(_2561.yw);
                            half2 _2606 = max(max(max(abs(_1700), abs(_1709)), abs(_2574)), abs(_2581));
                            half _1737 = max(_2606.x, _2606.y);
                            bool _1742 = (_1737 >= half(0.03125)) && (_1737 <= half(64.0));
                            half2 _2638 = fma(_2489, _2581, fma(_2481, _2574, fma(_1581, _1709, spvFMul(_1571, _1700))));
                            half2 _2692 = fma(_2537, _2581, fma(_2529, _2574, fma(_2513, _1709, _2505 * _1700)));
                            uint _2182;
                            if (_1221 && (!_1742))
                            {
                                _2182 = 1u << _2151;
                            }
                            else
                            {
                                _2182 = 0u;
                            }
                            _1243 = _2152 | _2182;
                            uint _1248 = (_1119 * TOKENS) + _2151;
                            uint _1271 = _2151 * 2u;
                            bool _1283 = _1221 && _1742;
                            float _2191;
                            if (_1283)
                            {
                                _2191 = fma(spvFMul(slot_weight[_1248], _2149), spvFAdd(float(_2638.x), float(_2638.y)), acc[_1271]);
                            }
                            else
                            {
                                _2191 = acc[_1271];
                            }
                            acc[_1271] = _2191;
                            uint _2715 = _1271 + 1u;
                            float _2729;
                            if (_1283)
                            {
                                _2729 = fma(slot_weight[_1248] * _2150, float(_2692.x) + float(_2692.y), acc[_2715]);
                            }
                            else
                            {
                                _2729 = acc[_2715];
                            }
                            acc[_2715] = _2729;
                        }
                        if (_2152 == 0u)
                        {
                            continue;
                        }
                        uint _1822 = raw[_2138][0].x ^ 2155905152u;
                        float _1845 = as_type<float>((_1822 & 255u) | 1258291200u) - 8388736.0;
                        float _1853 = as_type<float>(((_1822 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _1861 = as_type<float>(((_1822 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _1869 = as_type<float>((_1822 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _2740 = raw[_2138][0].y ^ 2155905152u;
                        float _2744 = as_type<float>((_2740 & 255u) | 1258291200u) - 8388736.0;
                        float _2749 = as_type<float>(((_2740 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _2754 = as_type<float>(((_2740 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _2758 = as_type<float>((_2740 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _2770 = raw[_2138][0].z ^ 2155905152u;
                        float _2774 = as_type<float>((_2770 & 255u) | 1258291200u) - 8388736.0;
                        float _2779 = as_type<float>(((_2770 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _2784 = as_type<float>(((_2770 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _2788 = as_type<float>((_2770 >> uint(24)) | 1258291200u) - 8388736.0;
                        uint _2800 = raw[_2138][0].w ^ 2155905152u;
                        float _2804 = as_type<float>((_2800 & 255u) | 1258291200u) - 8388736.0;
                        float _2809 = as_type<float>(((_2800 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                        float _2814 = as_type<float>(((_2800 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                        float _2818 = as_type<float>((_2800 >> uint(24)) | 1258291200u) - 8388736.0;
                        for (uint _2159 = 0u; _2159 < TOKENS; _2159++)
                        {
                            uint _1324 = _2152 >> _2159;
                            if ((_1324 & 1u) == 0u)
                            {
                                continue;
                            }
                            uint _1345 = _1170 + (_2159 * p.x_stride);
                            uint _1874 = (_920 >> uint(2)) * 2u;
                            uint _1889 = uint(int(popcount((~_1324) & (_1324 - 1u))));
                            uint _1357 = (_1345 + _1874) + _1889;
                            uint _2842 = (_1345 + (_1874 + 1u)) + _1889;
                            uint _1383 = (_1119 * TOKENS) + _2159;
                            uint _1396 = _2159 * 2u;
                            acc[_1396] = fma(spvFMul(slot_weight[_1383], _2149), fma(_2758, _1058.x[_2842].w, fma(_2754, _1058.x[_2842].z, fma(_2749, _1058.x[_2842].y, fma(_2744, _1058.x[_2842].x, fma(_1869, _1058.x[_1357].w, fma(_1861, _1058.x[_1357].z, fma(_1853, _1058.x[_1357].y, spvFMul(_1845, _1058.x[_1357].x)))))))), acc[_1396]);
                            uint _2930 = _1396 + 1u;
                            acc[_2930] = fma(slot_weight[_1383] * _2150, fma(_2818, _1058.x[_2842].w, fma(_2814, _1058.x[_2842].z, fma(_2809, _1058.x[_2842].y, fma(_2804, _1058.x[_2842].x, fma(_2788, _1058.x[_1357].w, fma(_2784, _1058.x[_1357].z, fma(_2779, _1058.x[_1357].y, _2774 * _1058.x[_1357].x))))))), acc[_2930]);
                        }
                    }
                }
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _2114 = 0u; _2114 < _564; )
        {
            partial[(_2114 * THREADS) + gl_LocalInvocationID.x] = param[_2114];
            _2114++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _2115 = gl_LocalInvocationID.x; _2115 < _593; _2115 += THREADS)
        {
            uint _2032 = (((_2115 / 32u) * THREADS) + ((_2115 / 8u) % 4u)) + (4u * (_2115 % 8u));
            float _2122;
            _2122 = partial[_2032];
            for (uint _2120 = 32u; _2120 < THREADS; )
            {
                _2122 = spvFAdd(_2122, partial[_2032 + _2120]);
                _2120 += 32u;
                continue;
            }
            chunk_sums[_2115] = _2122;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _1434 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _1439 = _680 + (gl_LocalInvocationID.x / 8u);
        bool _1442 = gl_LocalInvocationID.x >= _1441;
        bool _1451;
        if (!_1442)
        {
            _1451 = _1434 >= p.rows;
        }
        else
        {
            _1451 = _1442;
        }
        if (_1451)
        {
            break;
        }
        uint _1461 = (_1439 * p.y_stride) + _1434;
        uint _1466 = gl_LocalInvocationID.x % 8u;
        uint _2073 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1466 % 2u)) * 4u) + (_1466 / 2u)) * 8u;
        float _2445 = (((((spvFAdd(chunk_sums[_2073], chunk_sums[_2073 + 1u]) + chunk_sums[_2073 + 2u]) + chunk_sums[_2073 + 3u]) + chunk_sums[_2073 + 4u]) + chunk_sums[_2073 + 5u]) + chunk_sums[_2073 + 6u]) + chunk_sums[_2073 + 7u];
        float _2118;
        if ((p.flags & 1u) != 0u)
        {
            _2118 = spvFAdd(_2445, _1480.y[_1461]);
        }
        else
        {
            _2118 = _2445;
        }
        float _2119;
        if ((p.flags & 2u) != 0u)
        {
            _2119 = spvFAdd(_2118, _1496.residual[(_1439 * p.residual_stride) + _1434]);
        }
        else
        {
            _2119 = _2118;
        }
        _1480.y[_1461] = _2119;
        break;
    } while(false);
}

