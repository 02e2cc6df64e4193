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
    uint accumulate;
};

constant uint _593 = (TOKENS * 2u);

struct Route
{
    uint route[1];
};

constant uint _703 = (1u << TOKENS);
constant uint _704 = (_703 - 1u);
constant uint _717 = (64u * TOKENS);
constant bool _808 = (TOKENS == 1u);
constant bool _810 = (_808 && true);
constant int _811 = _810 ? 8 : 4;
constant uint _812 = (uint(_811) + 0u);
constant bool _887 = (TOKENS == 1u);
constant bool _888 = (_887 && true);
constant int _889 = _888 ? 8 : 4;
constant uint _890 = (uint(_889) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1058 = (TOKENS == 1u);
constant bool _1059 = (_1058 && true);
constant int _1060 = _1059 ? 8 : 4;
constant uint _1061 = (uint(_1060) + 0u);
constant uint _1086 = (8u * TOKENS);

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1134 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1134, 1u, 1u);

kernel void expert_down_int4(constant Push& p [[buffer(0)]], const device Weights& _114 [[buffer(1)]], const device X& _970 [[buffer(2)]], device Y& _1124 [[buffer(3)]], const device Route& _612 [[buffer(4)]], const device Step& _539 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_420];
    threadgroup float chunk_sums[_480];
    threadgroup uint counts[8];
    threadgroup uint slot_expert[64];
    threadgroup uint slot_mask[64];
    threadgroup float slot_weight[_717];
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
        uint _1146 = ((p.cols + 31u) / 32u) * 8u;
        uint _561 = THREADS / p.classes;
        uint _565 = gl_LocalInvocationID.x / _561;
        uint _569 = 64u / p.classes;
        uint _1154 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _585 = 16u + ((_1154 * p.classes) * 4u);
        float acc[16];
        for (uint _1653 = 0u; _1653 < _593; )
        {
            acc[_1653] = 0.0;
            _1653++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _612.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[8][1];
        uint pair[8];
        uint _1664;
        for (uint _1654 = 0u, _1665 = 1u; _1654 < _1146; _1665 = _1664, _1654 += _561)
        {
            _1664 = _1665;
            uint _1715;
            for (uint _1663 = 0u; _1663 < _1664; _1664 = _1715, _1663 += _569)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _1667;
                _1667 = gl_LocalInvocationID.x;
                for (; _1667 < 64u; _1667 += THREADS)
                {
                    uint _663 = ((_1667 / _569) * _1154) + min((_1663 + (_1667 % _569)), (_1154 - 1u));
                    uint _667 = 16u + (_663 * 4u);
                    uint _672 = _612.route[_667] - p.first_expert;
                    slot_expert[_1667] = _672;
                    uint _1717;
                    if (_672 < p.experts)
                    {
                        _1717 = (_612.route[_667 + uint((_531 < 32u) ? 1 : 2)] >> (_531 & 31u)) & _704;
                    }
                    else
                    {
                        _1717 = 0u;
                    }
                    slot_mask[_1667] = _1717;
                    for (uint _1718 = 0u; _1718 < TOKENS; )
                    {
                        slot_weight[(_1667 * TOKENS) + _1718] = as_type<float>(_612.route[((_585 + (_663 * 64u)) + _531) + _1718]);
                        _1718++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _1715 = _1664;
                for (uint _1668 = 0u; _1668 < p.classes; )
                {
                    _1715 = max(_1715, counts[_1668]);
                    _1668++;
                    continue;
                }
                uint _763 = _1654 + (gl_LocalInvocationID.x % _561);
                uint _767 = _565 * _569;
                uint _1673;
                if ((_763 < _1146) && (counts[_565] > _1663))
                {
                    _1673 = min((counts[_565] - _1663), _569);
                }
                else
                {
                    _1673 = 0u;
                }
                uint _1674;
                _1674 = 0u;
                bool _798;
                for (;;)
                {
                    _798 = _1674 < _1673;
                    if (_798)
                    {
                        bool _813 = 0u < _812;
                        bool _821;
                        if (_813)
                        {
                            _821 = _798;
                        }
                        else
                        {
                            _821 = _813;
                        }
                        bool _832;
                        if (_821)
                        {
                            _832 = slot_mask[_767 + _1674] != 0u;
                        }
                        else
                        {
                            _832 = _821;
                        }
                        if (_832)
                        {
                            uint _853 = (p.first + (slot_expert[_767 + _1674] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1643[1] = { _114.weights[_853 + _763] };
                            spvArrayCopyFromStackToStack1(raw[0u], _1643);
                            pair[0u] = ((device uint*)&_114.weights[(_853 + _1146) + (_763 >> uint(3))])[_763 & 3u];
                        }
                        bool _1875 = 1u < _812;
                        bool _1880;
                        if (_1875)
                        {
                            _1880 = (_1674 + 1u) < _1673;
                        }
                        else
                        {
                            _1880 = _1875;
                        }
                        bool _1888;
                        if (_1880)
                        {
                            _1888 = slot_mask[(_767 + _1674) + 1u] != 0u;
                        }
                        else
                        {
                            _1888 = _1880;
                        }
                        if (_1888)
                        {
                            uint _1905 = (p.first + (slot_expert[(_767 + _1674) + 1u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1915[1] = { _114.weights[_1905 + _763] };
                            spvArrayCopyFromStackToStack1(raw[1u], _1915);
                            pair[1u] = ((device uint*)&_114.weights[(_1905 + _1146) + (_763 >> uint(3))])[_763 & 3u];
                        }
                        bool _1926 = 2u < _812;
                        bool _1931;
                        if (_1926)
                        {
                            _1931 = (_1674 + 2u) < _1673;
                        }
                        else
                        {
                            _1931 = _1926;
                        }
                        bool _1939;
                        if (_1931)
                        {
                            _1939 = slot_mask[(_767 + _1674) + 2u] != 0u;
                        }
                        else
                        {
                            _1939 = _1931;
                        }
                        if (_1939)
                        {
                            uint _1956 = (p.first + (slot_expert[(_767 + _1674) + 2u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1966[1] = { _114.weights[_1956 + _763] };
                            spvArrayCopyFromStackToStack1(raw[2u], _1966);
                            pair[2u] = ((device uint*)&_114.weights[(_1956 + _1146) + (_763 >> uint(3))])[_763 & 3u];
                        }
                        bool _1977 = 3u < _812;
                        bool _1982;
                        if (_1977)
                        {
                            _1982 = (_1674 + 3u) < _1673;
                        }
                        else
                        {
                            _1982 = _1977;
                        }
                        bool _1990;
                        if (_1982)
                        {
                            _1990 = slot_mask[(_767 + _1674) + 3u] != 0u;
                        }
                        else
                        {
                            _1990 = _1982;
                        }
                        if (_1990)
                        {
                            uint _2007 = (p.first + (slot_expert[(_767 + _1674) + 3u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2017[1] = { _114.weights[_2007 + _763] };
                            spvArrayCopyFromStackToStack1(raw[3u], _2017);
                            pair[3u] = ((device uint*)&_114.weights[(_2007 + _1146) + (_763 >> uint(3))])[_763 & 3u];
                        }
                        bool _2028 = 4u < _812;
                        bool _2033;
                        if (_2028)
                        {
                            _2033 = (_1674 + 4u) < _1673;
                        }
                        else
                        {
                            _2033 = _2028;
                        }
                        bool _2041;
                        if (_2033)
                        {
                            _2041 = slot_mask[(_767 + _1674) + 4u] != 0u;
                        }
                        else
                        {
                            _2041 = _2033;
                        }
                        if (_2041)
                        {
                            uint _2058 = (p.first + (slot_expert[(_767 + _1674) + 4u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2068[1] = { _114.weights[_2058 + _763] };
                            spvArrayCopyFromStackToStack1(raw[4u], _2068);
                            pair[4u] = ((device uint*)&_114.weights[(_2058 + _1146) + (_763 >> uint(3))])[_763 & 3u];
                        }
                        bool _2079 = 5u < _812;
                        bool _2084;
                        if (_2079)
                        {
                            _2084 = (_1674 + 5u) < _1673;
                        }
                        else
                        {
                            _2084 = _2079;
                        }
                        bool _2092;
                        if (_2084)
                        {
                            _2092 = slot_mask[(_767 + _1674) + 5u] != 0u;
                        }
                        else
                        {
                            _2092 = _2084;
                        }
                        if (_2092)
                        {
                            uint _2109 = (p.first + (slot_expert[(_767 + _1674) + 5u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2119[1] = { _114.weights[_2109 + _763] };
                            spvArrayCopyFromStackToStack1(raw[5u], _2119);
                            pair[5u] = ((device uint*)&_114.weights[(_2109 + _1146) + (_763 >> uint(3))])[_763 & 3u];
                        }
                        bool _2130 = 6u < _812;
                        bool _2135;
                        if (_2130)
                        {
                            _2135 = (_1674 + 6u) < _1673;
                        }
                        else
                        {
                            _2135 = _2130;
                        }
                        bool _2143;
                        if (_2135)
                        {
                            _2143 = slot_mask[(_767 + _1674) + 6u] != 0u;
                        }
                        else
                        {
                            _2143 = _2135;
                        }
                        if (_2143)
                        {
                            uint _2160 = (p.first + (slot_expert[(_767 + _1674) + 6u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2170[1] = { _114.weights[_2160 + _763] };
                            spvArrayCopyFromStackToStack1(raw[6u], _2170);
                            pair[6u] = ((device uint*)&_114.weights[(_2160 + _1146) + (_763 >> uint(3))])[_763 & 3u];
                        }
                        bool _2181 = 7u < _812;
                        bool _2186;
                        if (_2181)
                        {
                            _2186 = (_1674 + 7u) < _1673;
                        }
                        else
                        {
                            _2186 = _2181;
                        }
                        bool _2194;
                        if (_2186)
                        {
                            _2194 = slot_mask[(_767 + _1674) + 7u] != 0u;
                        }
                        else
                        {
                            _2194 = _2186;
                        }
                        if (_2194)
                        {
                            uint _2211 = (p.first + (slot_expert[(_767 + _1674) + 7u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2221[1] = { _114.weights[_2211 + _763] };
                            spvArrayCopyFromStackToStack1(raw[7u], _2221);
                            pair[7u] = ((device uint*)&_114.weights[(_2211 + _1146) + (_763 >> uint(3))])[_763 & 3u];
                        }
                        for (uint _1678 = 0u; _1678 < 8u; _1678++)
                        {
                            bool _891 = _1678 >= _890;
                            bool _900;
                            if (!_891)
                            {
                                _900 = (_1674 + _1678) >= _1673;
                            }
                            else
                            {
                                _900 = _891;
                            }
                            if (_900)
                            {
                                continue;
                            }
                            uint _909 = (_767 + _1674) + _1678;
                            if (slot_mask[_909] == 0u)
                            {
                                continue;
                            }
                            float _1254 = as_type<float>((raw[_1678][0].x & 15u) | 1258291200u) - 8388616.0;
                            float _1262 = as_type<float>(((raw[_1678][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _1270 = as_type<float>(((raw[_1678][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _1278 = as_type<float>(((raw[_1678][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            uint _1210 = raw[_1678][0].x >> uint(4);
                            float _1312 = as_type<float>((_1210 & 15u) | 1258291200u) - 8388616.0;
                            float _1320 = as_type<float>(((_1210 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _1328 = as_type<float>(((_1210 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _1336 = as_type<float>(((_1210 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            float _2241 = as_type<float>((raw[_1678][0].y & 15u) | 1258291200u) - 8388616.0;
                            float _2246 = as_type<float>(((raw[_1678][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _2251 = as_type<float>(((raw[_1678][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _2256 = as_type<float>(((raw[_1678][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            uint _2266 = raw[_1678][0].y >> uint(4);
                            float _2270 = as_type<float>((_2266 & 15u) | 1258291200u) - 8388616.0;
                            float _2275 = as_type<float>(((_2266 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _2280 = as_type<float>(((_2266 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _2285 = as_type<float>(((_2266 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            float _2308 = as_type<float>((raw[_1678][0].z & 15u) | 1258291200u) - 8388616.0;
                            float _2313 = as_type<float>(((raw[_1678][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _2318 = as_type<float>(((raw[_1678][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _2323 = as_type<float>(((raw[_1678][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            uint _2333 = raw[_1678][0].z >> uint(4);
                            float _2337 = as_type<float>((_2333 & 15u) | 1258291200u) - 8388616.0;
                            float _2342 = as_type<float>(((_2333 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _2347 = as_type<float>(((_2333 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _2352 = as_type<float>(((_2333 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            float _2370 = as_type<float>((raw[_1678][0].w & 15u) | 1258291200u) - 8388616.0;
                            float _2375 = as_type<float>(((raw[_1678][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _2380 = as_type<float>(((raw[_1678][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _2385 = as_type<float>(((raw[_1678][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            uint _2395 = raw[_1678][0].w >> uint(4);
                            float _2399 = as_type<float>((_2395 & 15u) | 1258291200u) - 8388616.0;
                            float _2404 = as_type<float>(((_2395 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _2409 = as_type<float>(((_2395 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _2414 = as_type<float>(((_2395 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            uint _1341 = pair[_1678] & 65535u;
                            uint _1356 = _1341 & 32767u;
                            uint _1358 = _1356 << uint(13);
                            float _1373 = (_1356 < 1024u) ? (as_type<float>(947912704u | _1358) - 6.103515625e-05) : as_type<float>(_1358 + ((_1356 < 31744u) ? 939524096u : 1879048192u));
                            float _1685;
                            if ((_1341 & 32768u) != 0u)
                            {
                                _1685 = -_1373;
                            }
                            else
                            {
                                _1685 = _1373;
                            }
                            uint _1345 = pair[_1678] >> uint(16);
                            uint _1392 = _1345 & 32767u;
                            uint _1394 = _1392 << uint(13);
                            float _1409 = (_1392 < 1024u) ? (as_type<float>(947912704u | _1394) - 6.103515625e-05) : as_type<float>(_1394 + ((_1392 < 31744u) ? 939524096u : 1879048192u));
                            float _1686;
                            if ((_1345 & 32768u) != 0u)
                            {
                                _1686 = -_1409;
                            }
                            else
                            {
                                _1686 = _1409;
                            }
                            uint _944 = ((p.first_expert + slot_expert[_909]) * 64u) + _531;
                            for (uint _1687 = 0u; _1687 < TOKENS; _1687++)
                            {
                                uint _976 = p.x_stride * (_944 + _1687);
                                uint _1429 = ((_763 >> uint(3)) * 8u) + (((_763 >> uint(2)) & 1u) * 2u);
                                uint _982 = _976 + _1429;
                                uint _2442 = _976 + (_1429 + 1u);
                                uint _2468 = _976 + (_1429 + 4u);
                                uint _2494 = _976 + (_1429 + 5u);
                                uint _1001 = (_909 * TOKENS) + _1687;
                                uint _1024 = _1687 * 2u;
                                bool _1038 = ((slot_mask[_909] >> _1687) & 1u) != 0u;
                                float _1694;
                                if (_1038)
                                {
                                    _1694 = fma(spvFMul(slot_weight[_1001], _1685), fma(_2285, _970.x[_2494].w, fma(_2280, _970.x[_2494].z, fma(_2275, _970.x[_2494].y, fma(_2270, _970.x[_2494].x, fma(_1336, _970.x[_2468].w, fma(_1328, _970.x[_2468].z, fma(_1320, _970.x[_2468].y, fma(_1312, _970.x[_2468].x, fma(_2256, _970.x[_2442].w, fma(_2251, _970.x[_2442].z, fma(_2246, _970.x[_2442].y, fma(_2241, _970.x[_2442].x, fma(_1278, _970.x[_982].w, fma(_1270, _970.x[_982].z, fma(_1262, _970.x[_982].y, spvFMul(_1254, _970.x[_982].x)))))))))))))))), acc[_1024]);
                                }
                                else
                                {
                                    _1694 = acc[_1024];
                                }
                                acc[_1024] = _1694;
                                uint _2718 = _1024 + 1u;
                                float _2734;
                                if (_1038)
                                {
                                    _2734 = fma(slot_weight[_1001] * _1686, fma(_2414, _970.x[_2494].w, fma(_2409, _970.x[_2494].z, fma(_2404, _970.x[_2494].y, fma(_2399, _970.x[_2494].x, fma(_2352, _970.x[_2468].w, fma(_2347, _970.x[_2468].z, fma(_2342, _970.x[_2468].y, fma(_2337, _970.x[_2468].x, fma(_2385, _970.x[_2442].w, fma(_2380, _970.x[_2442].z, fma(_2375, _970.x[_2442].y, fma(_2370, _970.x[_2442].x, fma(_2323, _970.x[_982].w, fma(_2318, _970.x[_982].z, fma(_2313, _970.x[_982].y, _2308 * _970.x[_982].x))))))))))))))), acc[_2718]);
                                }
                                else
                                {
                                    _2734 = acc[_2718];
                                }
                                acc[_2718] = _2734;
                            }
                        }
                        _1674 += _1061;
                        continue;
                    }
                    else
                    {
                        break;
                    }
                }
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1655 = 0u; _1655 < _416; )
        {
            partial[(_1655 * THREADS) + gl_LocalInvocationID.x] = param[_1655];
            _1655++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1656 = gl_LocalInvocationID.x; _1656 < _445; _1656 += THREADS)
        {
            uint _1579 = (((_1656 / 32u) * THREADS) + ((_1656 / 8u) % 4u)) + (4u * (_1656 % 8u));
            float _1662;
            _1662 = partial[_1579];
            for (uint _1660 = 32u; _1660 < THREADS; )
            {
                _1662 = spvFAdd(_1662, partial[_1579 + _1660]);
                _1660 += 32u;
                continue;
            }
            chunk_sums[_1656] = _1662;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _1079 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        bool _1087 = gl_LocalInvocationID.x >= _1086;
        bool _1096;
        if (!_1087)
        {
            _1096 = _1079 >= p.rows;
        }
        else
        {
            _1096 = _1087;
        }
        if (_1096)
        {
            break;
        }
        uint _1106 = ((_531 + (gl_LocalInvocationID.x / 8u)) * p.y_stride) + _1079;
        uint _1111 = gl_LocalInvocationID.x % 8u;
        uint _1620 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1111 % 2u)) * 4u) + (_1111 / 2u)) * 8u;
        float _1867 = (((((spvFAdd(chunk_sums[_1620], chunk_sums[_1620 + 1u]) + chunk_sums[_1620 + 2u]) + chunk_sums[_1620 + 3u]) + chunk_sums[_1620 + 4u]) + chunk_sums[_1620 + 5u]) + chunk_sums[_1620 + 6u]) + chunk_sums[_1620 + 7u];
        float _1659;
        if (p.accumulate != 0u)
        {
            _1659 = spvFAdd(_1867, _1124.y[_1106]);
        }
        else
        {
            _1659 = _1867;
        }
        _1124.y[_1106] = _1659;
        break;
    } while(false);
}

