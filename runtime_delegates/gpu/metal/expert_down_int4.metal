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

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1156 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1156, 1u, 1u);

kernel void expert_down_int4(constant Push& p [[buffer(0)]], const device Weights& _114 [[buffer(1)]], const device X& _970 [[buffer(2)]], device Y& _1125 [[buffer(3)]], const device Route& _612 [[buffer(4)]], const device Step& _539 [[buffer(5)]], const device Residual& _1141 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
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
        uint _1168 = ((p.cols + 31u) / 32u) * 8u;
        uint _561 = THREADS / p.classes;
        uint _565 = gl_LocalInvocationID.x / _561;
        uint _569 = 64u / p.classes;
        uint _1176 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _585 = 16u + ((_1176 * p.classes) * 4u);
        float acc[16];
        for (uint _1675 = 0u; _1675 < _593; )
        {
            acc[_1675] = 0.0;
            _1675++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _612.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[8][1];
        uint pair[8];
        uint _1687;
        for (uint _1676 = 0u, _1688 = 1u; _1676 < _1168; _1688 = _1687, _1676 += _561)
        {
            _1687 = _1688;
            uint _1738;
            for (uint _1686 = 0u; _1686 < _1687; _1687 = _1738, _1686 += _569)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _1690;
                _1690 = gl_LocalInvocationID.x;
                for (; _1690 < 64u; _1690 += THREADS)
                {
                    uint _663 = ((_1690 / _569) * _1176) + min((_1686 + (_1690 % _569)), (_1176 - 1u));
                    uint _667 = 16u + (_663 * 4u);
                    uint _672 = _612.route[_667] - p.first_expert;
                    slot_expert[_1690] = _672;
                    uint _1740;
                    if (_672 < p.experts)
                    {
                        _1740 = (_612.route[_667 + uint((_531 < 32u) ? 1 : 2)] >> (_531 & 31u)) & _704;
                    }
                    else
                    {
                        _1740 = 0u;
                    }
                    slot_mask[_1690] = _1740;
                    for (uint _1741 = 0u; _1741 < TOKENS; )
                    {
                        slot_weight[(_1690 * TOKENS) + _1741] = as_type<float>(_612.route[((_585 + (_663 * 64u)) + _531) + _1741]);
                        _1741++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _1738 = _1687;
                for (uint _1691 = 0u; _1691 < p.classes; )
                {
                    _1738 = max(_1738, counts[_1691]);
                    _1691++;
                    continue;
                }
                uint _763 = _1676 + (gl_LocalInvocationID.x % _561);
                uint _767 = _565 * _569;
                uint _1696;
                if ((_763 < _1168) && (counts[_565] > _1686))
                {
                    _1696 = min((counts[_565] - _1686), _569);
                }
                else
                {
                    _1696 = 0u;
                }
                uint _1697;
                _1697 = 0u;
                bool _798;
                for (;;)
                {
                    _798 = _1697 < _1696;
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
                            _832 = slot_mask[_767 + _1697] != 0u;
                        }
                        else
                        {
                            _832 = _821;
                        }
                        if (_832)
                        {
                            uint _853 = (p.first + (slot_expert[_767 + _1697] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1665[1] = { _114.weights[_853 + _763] };
                            spvArrayCopyFromStackToStack1(raw[0u], _1665);
                            pair[0u] = ((device uint*)&_114.weights[(_853 + _1168) + (_763 >> uint(3))])[_763 & 3u];
                        }
                        bool _1898 = 1u < _812;
                        bool _1903;
                        if (_1898)
                        {
                            _1903 = (_1697 + 1u) < _1696;
                        }
                        else
                        {
                            _1903 = _1898;
                        }
                        bool _1911;
                        if (_1903)
                        {
                            _1911 = slot_mask[(_767 + _1697) + 1u] != 0u;
                        }
                        else
                        {
                            _1911 = _1903;
                        }
                        if (_1911)
                        {
                            uint _1928 = (p.first + (slot_expert[(_767 + _1697) + 1u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1938[1] = { _114.weights[_1928 + _763] };
                            spvArrayCopyFromStackToStack1(raw[1u], _1938);
                            pair[1u] = ((device uint*)&_114.weights[(_1928 + _1168) + (_763 >> uint(3))])[_763 & 3u];
                        }
                        bool _1949 = 2u < _812;
                        bool _1954;
                        if (_1949)
                        {
                            _1954 = (_1697 + 2u) < _1696;
                        }
                        else
                        {
                            _1954 = _1949;
                        }
                        bool _1962;
                        if (_1954)
                        {
                            _1962 = slot_mask[(_767 + _1697) + 2u] != 0u;
                        }
                        else
                        {
                            _1962 = _1954;
                        }
                        if (_1962)
                        {
                            uint _1979 = (p.first + (slot_expert[(_767 + _1697) + 2u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _1989[1] = { _114.weights[_1979 + _763] };
                            spvArrayCopyFromStackToStack1(raw[2u], _1989);
                            pair[2u] = ((device uint*)&_114.weights[(_1979 + _1168) + (_763 >> uint(3))])[_763 & 3u];
                        }
                        bool _2000 = 3u < _812;
                        bool _2005;
                        if (_2000)
                        {
                            _2005 = (_1697 + 3u) < _1696;
                        }
                        else
                        {
                            _2005 = _2000;
                        }
                        bool _2013;
                        if (_2005)
                        {
                            _2013 = slot_mask[(_767 + _1697) + 3u] != 0u;
                        }
                        else
                        {
                            _2013 = _2005;
                        }
                        if (_2013)
                        {
                            uint _2030 = (p.first + (slot_expert[(_767 + _1697) + 3u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2040[1] = { _114.weights[_2030 + _763] };
                            spvArrayCopyFromStackToStack1(raw[3u], _2040);
                            pair[3u] = ((device uint*)&_114.weights[(_2030 + _1168) + (_763 >> uint(3))])[_763 & 3u];
                        }
                        bool _2051 = 4u < _812;
                        bool _2056;
                        if (_2051)
                        {
                            _2056 = (_1697 + 4u) < _1696;
                        }
                        else
                        {
                            _2056 = _2051;
                        }
                        bool _2064;
                        if (_2056)
                        {
                            _2064 = slot_mask[(_767 + _1697) + 4u] != 0u;
                        }
                        else
                        {
                            _2064 = _2056;
                        }
                        if (_2064)
                        {
                            uint _2081 = (p.first + (slot_expert[(_767 + _1697) + 4u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2091[1] = { _114.weights[_2081 + _763] };
                            spvArrayCopyFromStackToStack1(raw[4u], _2091);
                            pair[4u] = ((device uint*)&_114.weights[(_2081 + _1168) + (_763 >> uint(3))])[_763 & 3u];
                        }
                        bool _2102 = 5u < _812;
                        bool _2107;
                        if (_2102)
                        {
                            _2107 = (_1697 + 5u) < _1696;
                        }
                        else
                        {
                            _2107 = _2102;
                        }
                        bool _2115;
                        if (_2107)
                        {
                            _2115 = slot_mask[(_767 + _1697) + 5u] != 0u;
                        }
                        else
                        {
                            _2115 = _2107;
                        }
                        if (_2115)
                        {
                            uint _2132 = (p.first + (slot_expert[(_767 + _1697) + 5u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2142[1] = { _114.weights[_2132 + _763] };
                            spvArrayCopyFromStackToStack1(raw[5u], _2142);
                            pair[5u] = ((device uint*)&_114.weights[(_2132 + _1168) + (_763 >> uint(3))])[_763 & 3u];
                        }
                        bool _2153 = 6u < _812;
                        bool _2158;
                        if (_2153)
                        {
                            _2158 = (_1697 + 6u) < _1696;
                        }
                        else
                        {
                            _2158 = _2153;
                        }
                        bool _2166;
                        if (_2158)
                        {
                            _2166 = slot_mask[(_767 + _1697) + 6u] != 0u;
                        }
                        else
                        {
                            _2166 = _2158;
                        }
                        if (_2166)
                        {
                            uint _2183 = (p.first + (slot_expert[(_767 + _1697) + 6u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2193[1] = { _114.weights[_2183 + _763] };
                            spvArrayCopyFromStackToStack1(raw[6u], _2193);
                            pair[6u] = ((device uint*)&_114.weights[(_2183 + _1168) + (_763 >> uint(3))])[_763 & 3u];
                        }
                        bool _2204 = 7u < _812;
                        bool _2209;
                        if (_2204)
                        {
                            _2209 = (_1697 + 7u) < _1696;
                        }
                        else
                        {
                            _2209 = _2204;
                        }
                        bool _2217;
                        if (_2209)
                        {
                            _2217 = slot_mask[(_767 + _1697) + 7u] != 0u;
                        }
                        else
                        {
                            _2217 = _2209;
                        }
                        if (_2217)
                        {
                            uint _2234 = (p.first + (slot_expert[(_767 + _1697) + 7u] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
                            uint4 _2244[1] = { _114.weights[_2234 + _763] };
                            spvArrayCopyFromStackToStack1(raw[7u], _2244);
                            pair[7u] = ((device uint*)&_114.weights[(_2234 + _1168) + (_763 >> uint(3))])[_763 & 3u];
                        }
                        for (uint _1701 = 0u; _1701 < 8u; _1701++)
                        {
                            bool _891 = _1701 >= _890;
                            bool _900;
                            if (!_891)
                            {
                                _900 = (_1697 + _1701) >= _1696;
                            }
                            else
                            {
                                _900 = _891;
                            }
                            if (_900)
                            {
                                continue;
                            }
                            uint _909 = (_767 + _1697) + _1701;
                            if (slot_mask[_909] == 0u)
                            {
                                continue;
                            }
                            float _1276 = as_type<float>((raw[_1701][0].x & 15u) | 1258291200u) - 8388616.0;
                            float _1284 = as_type<float>(((raw[_1701][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _1292 = as_type<float>(((raw[_1701][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _1300 = as_type<float>(((raw[_1701][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            uint _1232 = raw[_1701][0].x >> uint(4);
                            float _1334 = as_type<float>((_1232 & 15u) | 1258291200u) - 8388616.0;
                            float _1342 = as_type<float>(((_1232 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _1350 = as_type<float>(((_1232 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _1358 = as_type<float>(((_1232 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            float _2264 = as_type<float>((raw[_1701][0].y & 15u) | 1258291200u) - 8388616.0;
                            float _2269 = as_type<float>(((raw[_1701][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _2274 = as_type<float>(((raw[_1701][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _2279 = as_type<float>(((raw[_1701][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            uint _2289 = raw[_1701][0].y >> uint(4);
                            float _2293 = as_type<float>((_2289 & 15u) | 1258291200u) - 8388616.0;
                            float _2298 = as_type<float>(((_2289 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _2303 = as_type<float>(((_2289 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _2308 = as_type<float>(((_2289 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            float _2331 = as_type<float>((raw[_1701][0].z & 15u) | 1258291200u) - 8388616.0;
                            float _2336 = as_type<float>(((raw[_1701][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _2341 = as_type<float>(((raw[_1701][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _2346 = as_type<float>(((raw[_1701][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            uint _2356 = raw[_1701][0].z >> uint(4);
                            float _2360 = as_type<float>((_2356 & 15u) | 1258291200u) - 8388616.0;
                            float _2365 = as_type<float>(((_2356 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _2370 = as_type<float>(((_2356 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _2375 = as_type<float>(((_2356 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            float _2393 = as_type<float>((raw[_1701][0].w & 15u) | 1258291200u) - 8388616.0;
                            float _2398 = as_type<float>(((raw[_1701][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _2403 = as_type<float>(((raw[_1701][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _2408 = as_type<float>(((raw[_1701][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            uint _2418 = raw[_1701][0].w >> uint(4);
                            float _2422 = as_type<float>((_2418 & 15u) | 1258291200u) - 8388616.0;
                            float _2427 = as_type<float>(((_2418 >> uint(8)) & 15u) | 1258291200u) - 8388616.0;
                            float _2432 = as_type<float>(((_2418 >> uint(16)) & 15u) | 1258291200u) - 8388616.0;
                            float _2437 = as_type<float>(((_2418 >> uint(24)) & 15u) | 1258291200u) - 8388616.0;
                            uint _1363 = pair[_1701] & 65535u;
                            uint _1378 = _1363 & 32767u;
                            uint _1380 = _1378 << uint(13);
                            float _1395 = (_1378 < 1024u) ? (as_type<float>(947912704u | _1380) - 6.103515625e-05) : as_type<float>(_1380 + ((_1378 < 31744u) ? 939524096u : 1879048192u));
                            float _1708;
                            if ((_1363 & 32768u) != 0u)
                            {
                                _1708 = -_1395;
                            }
                            else
                            {
                                _1708 = _1395;
                            }
                            uint _1367 = pair[_1701] >> uint(16);
                            uint _1414 = _1367 & 32767u;
                            uint _1416 = _1414 << uint(13);
                            float _1431 = (_1414 < 1024u) ? (as_type<float>(947912704u | _1416) - 6.103515625e-05) : as_type<float>(_1416 + ((_1414 < 31744u) ? 939524096u : 1879048192u));
                            float _1709;
                            if ((_1367 & 32768u) != 0u)
                            {
                                _1709 = -_1431;
                            }
                            else
                            {
                                _1709 = _1431;
                            }
                            uint _944 = ((p.first_expert + slot_expert[_909]) * 64u) + _531;
                            for (uint _1710 = 0u; _1710 < TOKENS; _1710++)
                            {
                                uint _976 = p.x_stride * (_944 + _1710);
                                uint _1451 = ((_763 >> uint(3)) * 8u) + (((_763 >> uint(2)) & 1u) * 2u);
                                uint _982 = _976 + _1451;
                                uint _2465 = _976 + (_1451 + 1u);
                                uint _2491 = _976 + (_1451 + 4u);
                                uint _2517 = _976 + (_1451 + 5u);
                                uint _1001 = (_909 * TOKENS) + _1710;
                                uint _1024 = _1710 * 2u;
                                bool _1038 = ((slot_mask[_909] >> _1710) & 1u) != 0u;
                                float _1717;
                                if (_1038)
                                {
                                    _1717 = fma(spvFMul(slot_weight[_1001], _1708), fma(_2308, _970.x[_2517].w, fma(_2303, _970.x[_2517].z, fma(_2298, _970.x[_2517].y, fma(_2293, _970.x[_2517].x, fma(_1358, _970.x[_2491].w, fma(_1350, _970.x[_2491].z, fma(_1342, _970.x[_2491].y, fma(_1334, _970.x[_2491].x, fma(_2279, _970.x[_2465].w, fma(_2274, _970.x[_2465].z, fma(_2269, _970.x[_2465].y, fma(_2264, _970.x[_2465].x, fma(_1300, _970.x[_982].w, fma(_1292, _970.x[_982].z, fma(_1284, _970.x[_982].y, spvFMul(_1276, _970.x[_982].x)))))))))))))))), acc[_1024]);
                                }
                                else
                                {
                                    _1717 = acc[_1024];
                                }
                                acc[_1024] = _1717;
                                uint _2741 = _1024 + 1u;
                                float _2757;
                                if (_1038)
                                {
                                    _2757 = fma(slot_weight[_1001] * _1709, fma(_2437, _970.x[_2517].w, fma(_2432, _970.x[_2517].z, fma(_2427, _970.x[_2517].y, fma(_2422, _970.x[_2517].x, fma(_2375, _970.x[_2491].w, fma(_2370, _970.x[_2491].z, fma(_2365, _970.x[_2491].y, fma(_2360, _970.x[_2491].x, fma(_2408, _970.x[_2465].w, fma(_2403, _970.x[_2465].z, fma(_2398, _970.x[_2465].y, fma(_2393, _970.x[_2465].x, fma(_2346, _970.x[_982].w, fma(_2341, _970.x[_982].z, fma(_2336, _970.x[_982].y, _2331 * _970.x[_982].x))))))))))))))), acc[_2741]);
                                }
                                else
                                {
                                    _2757 = acc[_2741];
                                }
                                acc[_2741] = _2757;
                            }
                        }
                        _1697 += _1061;
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
        for (uint _1677 = 0u; _1677 < _416; )
        {
            partial[(_1677 * THREADS) + gl_LocalInvocationID.x] = param[_1677];
            _1677++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1678 = gl_LocalInvocationID.x; _1678 < _445; _1678 += THREADS)
        {
            uint _1601 = (((_1678 / 32u) * THREADS) + ((_1678 / 8u) % 4u)) + (4u * (_1678 % 8u));
            float _1685;
            _1685 = partial[_1601];
            for (uint _1683 = 32u; _1683 < THREADS; )
            {
                _1685 = spvFAdd(_1685, partial[_1601 + _1683]);
                _1683 += 32u;
                continue;
            }
            chunk_sums[_1678] = _1685;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _1079 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _1084 = _531 + (gl_LocalInvocationID.x / 8u);
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
        uint _1106 = (_1084 * p.y_stride) + _1079;
        uint _1111 = gl_LocalInvocationID.x % 8u;
        uint _1642 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1111 % 2u)) * 4u) + (_1111 / 2u)) * 8u;
        float _1890 = (((((spvFAdd(chunk_sums[_1642], chunk_sums[_1642 + 1u]) + chunk_sums[_1642 + 2u]) + chunk_sums[_1642 + 3u]) + chunk_sums[_1642 + 4u]) + chunk_sums[_1642 + 5u]) + chunk_sums[_1642 + 6u]) + chunk_sums[_1642 + 7u];
        float _1681;
        if ((p.flags & 1u) != 0u)
        {
            _1681 = spvFAdd(_1890, _1125.y[_1106]);
        }
        else
        {
            _1681 = _1890;
        }
        float _1682;
        if ((p.flags & 2u) != 0u)
        {
            _1682 = spvFAdd(_1681, _1141.residual[(_1084 * p.residual_stride) + _1079]);
        }
        else
        {
            _1682 = _1681;
        }
        _1125.y[_1106] = _1682;
        break;
    } while(false);
}

