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
constant uint _416 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _419 = (THREADS * TOKENS);
constant uint _420 = (_419 * 2u);
constant uint _445 = (64u * TOKENS);
constant uint _480 = (64u * TOKENS);
constant bool _532 = (TOKENS > 1u);

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

constant uint _593 = (TOKENS * 2u);

struct Route
{
    uint route[1];
};

constant uint _708 = (1u << TOKENS);
constant uint _709 = (_708 - 1u);
constant uint _722 = (64u * TOKENS);
constant bool _813 = (TOKENS == 1u);
constant int _814 = _813 ? 4 : 4;
constant uint _815 = (uint(_814) + 0u);
constant bool _833 = (TOKENS == 1u);
constant bool _888 = (TOKENS == 1u);

struct X
{
    float4 x[1];
};

constant bool _940 = (TOKENS == 1u);
constant int _941 = _940 ? 4 : 4;
constant uint _942 = (uint(_941) + 0u);
constant bool _947 = (TOKENS != 1u);
constant bool _983 = (TOKENS != 1u);
constant bool _1037 = (TOKENS == 1u);
constant bool _1133 = (TOKENS == 1u);
constant int _1134 = _1133 ? 4 : 4;
constant uint _1135 = (uint(_1134) + 0u);
constant uint _1160 = (8u * TOKENS);

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
constant uint _1230 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1230, 1u, 1u);

kernel void expert_down_int4(constant Push& p [[buffer(0)]], const device Weights& _114 [[buffer(1)]], const device X& _907 [[buffer(2)]], device Y& _1199 [[buffer(3)]], const device Route& _612 [[buffer(4)]], const device Step& _539 [[buffer(5)]], const device Residual& _1215 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_420];
    threadgroup float chunk_sums[_480];
    threadgroup uint counts[8];
    threadgroup uint slot_expert[64];
    threadgroup uint slot_mask[64];
    threadgroup float slot_weight[_722];
    do
    {
        uint _531 = gl_WorkGroupID.y * TOKENS;
        bool _543;
        if (_532)
        {
            _543 = _531 >= _539.step_[0];
        }
        else
        {
            _543 = _532;
        }
        if (_543)
        {
            break;
        }
        uint _1243 = ((p.cols + 31u) / 32u) * 8u;
        uint _561 = THREADS / p.classes;
        uint _565 = gl_LocalInvocationID.x / _561;
        uint _569 = 64u / p.classes;
        uint _1251 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _585 = 16u + ((_1251 * p.classes) * 4u);
        float acc[16];
        for (uint _1767 = 0u; _1767 < _593; )
        {
            acc[_1767] = 0.0;
            _1767++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _612.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[4][1];
        uint pair[4];
        float4 hidden[4][4];
        uint _1779;
        for (uint _1768 = 0u, _1780 = 1u; _1768 < _1243; _1780 = _1779, _1768 += _561)
        {
            _1779 = _1780;
            uint _1838;
            for (uint _1778 = 0u; _1778 < _1779; _1779 = _1838, _1778 += _569)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _1782;
                _1782 = gl_LocalInvocationID.x;
                for (; _1782 < 64u; _1782 += THREADS)
                {
                    uint _663 = ((_1782 / _569) * _1251) + min((_1778 + (_1782 % _569)), (_1251 - 1u));
                    uint _667 = 16u + (_663 * 4u);
                    uint _672 = _612.route[_667] - p.first_expert;
                    bool _680 = _672 < p.experts;
                    slot_expert[_1782] = _680 ? _672 : 0u;
                    uint _1840;
                    if (_680)
                    {
                        _1840 = (_612.route[_667 + uint((_531 < 32u) ? 1 : 2)] >> (_531 & 31u)) & _709;
                    }
                    else
                    {
                        _1840 = 0u;
                    }
                    slot_mask[_1782] = _1840;
                    for (uint _1841 = 0u; _1841 < TOKENS; )
                    {
                        slot_weight[(_1782 * TOKENS) + _1841] = as_type<float>(_612.route[((_585 + (_663 * 64u)) + _531) + _1841]);
                        _1841++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _1838 = _1779;
                for (uint _1783 = 0u; _1783 < p.classes; )
                {
                    _1838 = max(_1838, counts[_1783]);
                    _1783++;
                    continue;
                }
                uint _768 = _1768 + (gl_LocalInvocationID.x % _561);
                uint _772 = _565 * _569;
                uint _1788;
                if ((_768 < _1243) && (counts[_565] > _1778))
                {
                    _1788 = min((counts[_565] - _1778), _569);
                }
                else
                {
                    _1788 = 0u;
                }
                for (uint _1789 = 0u; _1789 < _1788; _1789 += _1135)
                {
                    for (uint _1792 = 0u; _1792 < 4u; _1792++)
                    {
                        if (_1792 >= _815)
                        {
                            continue;
                        }
                        uint _824 = _1789 + _1792;
                        uint _828 = _772 + min(_824, (_1788 - 1u));
                        bool _849;
                        if (!_833)
                        {
                            bool _841 = _824 < _1788;
                            bool _848;
                            if (_841)
                            {
                                _848 = slot_mask[_828] != 0u;
                            }
                            else
                            {
                                _848 = _841;
                            }
                            _849 = _848;
                        }
                        else
                        {
                            _849 = _833;
                        }
                        if (_849)
                        {
                            uint _864 = (p.first + (slot_expert[_828] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1757[1] = { _114.weights[_864 + _768] };
                            spvArrayCopyFromStackToStack1(raw[_1792], _1757);
                            pair[_1792] = ((device uint*)&_114.weights[(_864 + _1243) + (_768 >> uint(3))])[_768 & 3u];
                        }
                        if (_888)
                        {
                            uint _916 = ((p.first_expert + slot_expert[_828]) * 64u) * p.x_stride;
                            uint _1278 = ((_768 >> uint(3)) * 8u) + (((_768 >> uint(2)) & 1u) * 2u);
                            hidden[_1792][0u] = _907.x[_916 + _1278];
                            hidden[_1792][1u] = _907.x[_916 + (_1278 + 1u)];
                            hidden[_1792][2u] = _907.x[_916 + (_1278 + 4u)];
                            hidden[_1792][3u] = _907.x[_916 + (_1278 + 5u)];
                        }
                    }
                    for (uint _1793 = 0u; _1793 < 4u; _1793++)
                    {
                        bool _943 = _1793 >= _942;
                        bool _956;
                        if (!_943)
                        {
                            bool _955;
                            if (_947)
                            {
                                _955 = (_1789 + _1793) >= _1788;
                            }
                            else
                            {
                                _955 = _947;
                            }
                            _956 = _955;
                        }
                        else
                        {
                            _956 = _943;
                        }
                        if (_956)
                        {
                            continue;
                        }
                        uint _968 = _772 + min((_1789 + _1793), (_1788 - 1u));
                        uint _1800;
                        if ((_1789 + _1793) < _1788)
                        {
                            _1800 = slot_mask[_968];
                        }
                        else
                        {
                            _1800 = 0u;
                        }
                        if (_983 && (_1800 == 0u))
                        {
                            continue;
                        }
                        float _1368 = as_type<float>((raw[_1793][0].x & 15u) | 1258291200u) - 8388616.0;
                        float _1376 = as_type<float>(((raw[_1793][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _1384 = as_type<float>(((raw[_1793][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _1392 = as_type<float>(((raw[_1793][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _1324 = raw[_1793][0].x >> uint(4);
                        float _1426 = as_type<float>((_1324 & 15u) | 1258291200u) - 8388616.0;
                        float _1434 = as_type<float>(((_1324 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _1442 = as_type<float>(((_1324 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _1450 = as_type<float>(((_1324 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _2122 = as_type<float>((raw[_1793][0].y & 15u) | 1258291200u) - 8388616.0;
                        float _2127 = as_type<float>(((raw[_1793][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2132 = as_type<float>(((raw[_1793][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2137 = as_type<float>(((raw[_1793][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _2147 = raw[_1793][0].y >> uint(4);
                        float _2151 = as_type<float>((_2147 & 15u) | 1258291200u) - 8388616.0;
                        float _2156 = as_type<float>(((_2147 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2161 = as_type<float>(((_2147 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2166 = as_type<float>(((_2147 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _2189 = as_type<float>((raw[_1793][0].z & 15u) | 1258291200u) - 8388616.0;
                        float _2194 = as_type<float>(((raw[_1793][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2199 = as_type<float>(((raw[_1793][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2204 = as_type<float>(((raw[_1793][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _2214 = raw[_1793][0].z >> uint(4);
                        float _2218 = as_type<float>((_2214 & 15u) | 1258291200u) - 8388616.0;
                        float _2223 = as_type<float>(((_2214 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2228 = as_type<float>(((_2214 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2233 = as_type<float>(((_2214 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        float _2251 = as_type<float>((raw[_1793][0].w & 15u) | 1258291200u) - 8388616.0;
                        float _2256 = as_type<float>(((raw[_1793][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2261 = as_type<float>(((raw[_1793][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2266 = as_type<float>(((raw[_1793][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _2276 = raw[_1793][0].w >> uint(4);
                        float _2280 = as_type<float>((_2276 & 15u) | 1258291200u) - 8388616.0;
                        float _2285 = as_type<float>(((_2276 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                        float _2290 = as_type<float>(((_2276 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                        float _2295 = as_type<float>(((_2276 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                        uint _1455 = pair[_1793] & 65535u;
                        uint _1470 = _1455 & 32767u;
                        uint _1472 = _1470 << uint(13);
                        float _1487 = (_1470 < 1024u) ? (as_type<float>(947912704u | _1472) - 6.103515625e-05) : as_type<float>(_1472 + ((_1470 < 31744u) ? 939524096u : 1879048192u));
                        float _1804;
                        if ((_1455 & 32768u) != 0u)
                        {
                            _1804 = -_1487;
                        }
                        else
                        {
                            _1804 = _1487;
                        }
                        uint _1459 = pair[_1793] >> uint(16);
                        uint _1506 = _1459 & 32767u;
                        uint _1508 = _1506 << uint(13);
                        float _1523 = (_1506 < 1024u) ? (as_type<float>(947912704u | _1508) - 6.103515625e-05) : as_type<float>(_1508 + ((_1506 < 31744u) ? 939524096u : 1879048192u));
                        float _1805;
                        if ((_1459 & 32768u) != 0u)
                        {
                            _1805 = -_1523;
                        }
                        else
                        {
                            _1805 = _1523;
                        }
                        uint _1018 = (((p.first_expert + slot_expert[_968]) * 64u) + _531) * p.x_stride;
                        for (uint _1806 = 0u; _1806 < TOKENS; _1806++)
                        {
                            float4 _1826;
                            if (_1037)
                            {
                                _1826 = hidden[_1793][0u];
                            }
                            else
                            {
                                _1826 = _907.x[(_1018 + (_1806 * p.x_stride)) + (((_768 >> uint(3)) * 8u) + (((_768 >> uint(2)) & 1u) * 2u))];
                            }
                            float4 _2331;
                            if (_1037)
                            {
                                _2331 = hidden[_1793][1u];
                            }
                            else
                            {
                                _2331 = _907.x[(_1018 + (_1806 * p.x_stride)) + ((((_768 >> uint(3)) * 8u) + (((_768 >> uint(2)) & 1u) * 2u)) + 1u)];
                            }
                            float4 _2363;
                            if (_1037)
                            {
                                _2363 = hidden[_1793][2u];
                            }
                            else
                            {
                                _2363 = _907.x[(_1018 + (_1806 * p.x_stride)) + ((((_768 >> uint(3)) * 8u) + (((_768 >> uint(2)) & 1u) * 2u)) + 4u)];
                            }
                            float4 _2395;
                            if (_1037)
                            {
                                _2395 = hidden[_1793][3u];
                            }
                            else
                            {
                                _2395 = _907.x[(_1018 + (_1806 * p.x_stride)) + ((((_768 >> uint(3)) * 8u) + (((_768 >> uint(2)) & 1u) * 2u)) + 5u)];
                            }
                            uint _1076 = (_968 * TOKENS) + _1806;
                            uint _1099 = _1806 * 2u;
                            bool _1113 = ((_1800 >> _1806) & 1u) != 0u;
                            float _1813;
                            if (_1113)
                            {
                                _1813 = fma(spvFMul(slot_weight[_1076], _1804), fma(_2166, _2395.w, fma(_2161, _2395.z, fma(_2156, _2395.y, fma(_2151, _2395.x, fma(_1450, _2363.w, fma(_1442, _2363.z, fma(_1434, _2363.y, fma(_1426, _2363.x, fma(_2137, _2331.w, fma(_2132, _2331.z, fma(_2127, _2331.y, fma(_2122, _2331.x, fma(_1392, _1826.w, fma(_1384, _1826.z, fma(_1376, _1826.y, spvFMul(_1368, _1826.x)))))))))))))))), acc[_1099]);
                            }
                            else
                            {
                                _1813 = acc[_1099];
                            }
                            acc[_1099] = _1813;
                            uint _2617 = _1099 + 1u;
                            float _2633;
                            if (_1113)
                            {
                                _2633 = fma(slot_weight[_1076] * _1805, fma(_2295, _2395.w, fma(_2290, _2395.z, fma(_2285, _2395.y, fma(_2280, _2395.x, fma(_2233, _2363.w, fma(_2228, _2363.z, fma(_2223, _2363.y, fma(_2218, _2363.x, fma(_2266, _2331.w, fma(_2261, _2331.z, fma(_2256, _2331.y, fma(_2251, _2331.x, fma(_2204, _1826.w, fma(_2199, _1826.z, fma(_2194, _1826.y, _2189 * _1826.x))))))))))))))), acc[_2617]);
                            }
                            else
                            {
                                _2633 = acc[_2617];
                            }
                            acc[_2617] = _2633;
                        }
                    }
                }
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1769 = 0u; _1769 < _416; )
        {
            partial[(_1769 * THREADS) + gl_LocalInvocationID.x] = param[_1769];
            _1769++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1770 = gl_LocalInvocationID.x; _1770 < _445; _1770 += THREADS)
        {
            uint _1693 = (((_1770 / 32u) * THREADS) + ((_1770 / 8u) % 4u)) + (4u * (_1770 % 8u));
            float _1777;
            _1777 = partial[_1693];
            for (uint _1775 = 32u; _1775 < THREADS; )
            {
                _1777 = spvFAdd(_1777, partial[_1693 + _1775]);
                _1775 += 32u;
                continue;
            }
            chunk_sums[_1770] = _1777;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _1153 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _1158 = _531 + (gl_LocalInvocationID.x / 8u);
        bool _1161 = gl_LocalInvocationID.x >= _1160;
        bool _1170;
        if (!_1161)
        {
            _1170 = _1153 >= p.rows;
        }
        else
        {
            _1170 = _1161;
        }
        if (_1170)
        {
            break;
        }
        uint _1180 = (_1158 * p.y_stride) + _1153;
        uint _1185 = gl_LocalInvocationID.x % 8u;
        uint _1734 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1185 % 2u)) * 4u) + (_1185 / 2u)) * 8u;
        float _2018 = (((((spvFAdd(chunk_sums[_1734], chunk_sums[_1734 + 1u]) + chunk_sums[_1734 + 2u]) + chunk_sums[_1734 + 3u]) + chunk_sums[_1734 + 4u]) + chunk_sums[_1734 + 5u]) + chunk_sums[_1734 + 6u]) + chunk_sums[_1734 + 7u];
        float _1773;
        if ((p.flags & 1u) != 0u)
        {
            _1773 = spvFAdd(_2018, _1199.y[_1180]);
        }
        else
        {
            _1773 = _2018;
        }
        float _1774;
        if ((p.flags & 2u) != 0u)
        {
            _1774 = spvFAdd(_1773, _1215.residual[(_1158 * p.residual_stride) + _1153]);
        }
        else
        {
            _1774 = _1773;
        }
        _1199.y[_1180] = _1774;
        break;
    } while(false);
}

