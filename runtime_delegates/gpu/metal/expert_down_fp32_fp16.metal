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
constant uint _538 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _541 = (THREADS * TOKENS);
constant uint _542 = (_541 * 4u);
constant uint _567 = (64u * TOKENS);
constant uint _603 = (64u * TOKENS);
constant bool _655 = (TOKENS > 1u);

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

constant uint _717 = (TOKENS * 4u);

struct Route
{
    uint route[1];
};

constant uint _834 = (1u << TOKENS);
constant uint _835 = (_834 - 1u);
constant uint _848 = (64u * TOKENS);
constant bool _939 = (TOKENS == 1u);
constant int _940 = _939 ? 4 : 4;
constant uint _941 = (uint(_940) + 0u);
constant bool _959 = (TOKENS == 1u);
constant bool _1014 = (TOKENS == 1u);

struct X
{
    float4 x[1];
};

constant bool _1066 = (TOKENS == 1u);
constant int _1067 = _1066 ? 4 : 4;
constant uint _1068 = (uint(_1067) + 0u);
constant bool _1073 = (TOKENS != 1u);
constant bool _1109 = (TOKENS != 1u);
constant bool _1164 = (TOKENS == 1u);
constant bool _1389 = (TOKENS == 1u);
constant int _1390 = _1389 ? 4 : 4;
constant uint _1391 = (uint(_1390) + 0u);
constant uint _1416 = (8u * TOKENS);

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
constant uint _1487 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1487, 1u, 1u);

kernel void expert_down_fp32_fp16(constant Push& p [[buffer(0)]], const device Weights& _152 [[buffer(1)]], const device X& _1033 [[buffer(2)]], device Y& _1456 [[buffer(3)]], const device Route& _736 [[buffer(4)]], const device Step& _662 [[buffer(5)]], const device Residual& _1472 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_542];
    threadgroup float chunk_sums[_603];
    threadgroup uint counts[8];
    threadgroup uint slot_expert[64];
    threadgroup uint slot_mask[64];
    threadgroup float slot_weight[_848];
    do
    {
        uint _654 = gl_WorkGroupID.y * TOKENS;
        bool _667;
        if (_655)
        {
            _667 = _654 >= _662.step_[0];
        }
        else
        {
            _667 = _655;
        }
        if (_667)
        {
            break;
        }
        uint _1499 = ((p.cols + 3u) / 4u) * 2u;
        uint _685 = THREADS / p.classes;
        uint _689 = gl_LocalInvocationID.x / _685;
        uint _693 = 64u / p.classes;
        uint _1507 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _709 = 16u + ((_1507 * p.classes) * 4u);
        float acc[32];
        for (uint _2069 = 0u; _2069 < _717; )
        {
            acc[_2069] = 0.0;
            _2069++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _736.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[4][4];
        float4 hidden[4][1];
        float param_1[4];
        uint _2081;
        for (uint _2070 = 0u, _2082 = 1u; _2070 < _1499; _2082 = _2081, _2070 += _685)
        {
            _2081 = _2082;
            uint _2179;
            for (uint _2080 = 0u; _2080 < _2081; _2081 = _2179, _2080 += _693)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _2084;
                _2084 = gl_LocalInvocationID.x;
                for (; _2084 < 64u; _2084 += THREADS)
                {
                    uint _787 = ((_2084 / _693) * _1507) + min((_2080 + (_2084 % _693)), (_1507 - 1u));
                    uint _791 = 16u + (_787 * 4u);
                    uint _796 = _736.route[_791] - p.first_expert;
                    bool _805 = _796 < p.experts;
                    slot_expert[_2084] = _805 ? _796 : 0u;
                    uint _2181;
                    if (_805)
                    {
                        _2181 = (_736.route[_791 + uint((_654 < 32u) ? 1 : 2)] >> (_654 & 31u)) & _835;
                    }
                    else
                    {
                        _2181 = 0u;
                    }
                    slot_mask[_2084] = _2181;
                    for (uint _2182 = 0u; _2182 < TOKENS; )
                    {
                        slot_weight[(_2084 * TOKENS) + _2182] = as_type<float>(_736.route[((_709 + (_787 * 64u)) + _654) + _2182]);
                        _2182++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _2179 = _2081;
                for (uint _2085 = 0u; _2085 < p.classes; )
                {
                    _2179 = max(_2179, counts[_2085]);
                    _2085++;
                    continue;
                }
                uint _894 = _2070 + (gl_LocalInvocationID.x % _685);
                uint _898 = _689 * _693;
                uint _2090;
                if ((_894 < _1499) && (counts[_689] > _2080))
                {
                    _2090 = min((counts[_689] - _2080), _693);
                }
                else
                {
                    _2090 = 0u;
                }
                for (uint _2091 = 0u; _2091 < _2090; _2091 += _1391)
                {
                    for (uint _2094 = 0u; _2094 < 4u; _2094++)
                    {
                        if (_2094 >= _941)
                        {
                            continue;
                        }
                        uint _950 = _2091 + _2094;
                        uint _954 = _898 + min(_950, (_2090 - 1u));
                        bool _975;
                        if (!_959)
                        {
                            bool _967 = _950 < _2090;
                            bool _974;
                            if (_967)
                            {
                                _974 = slot_mask[_954] != 0u;
                            }
                            else
                            {
                                _974 = _967;
                            }
                            _975 = _974;
                        }
                        else
                        {
                            _975 = _959;
                        }
                        if (_975)
                        {
                            uint _1514 = _894 >> uint(1);
                            uint _1515 = _1514 * 4u;
                            uint _1522 = (((p.first + (slot_expert[_954] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors)) + (_1514 * 8u)) + (_894 & 1u);
                            uint4 _2175;
                            if (_1515 < p.cols)
                            {
                                _2175 = _152.weights[_1522];
                            }
                            else
                            {
                                _2175 = uint4(0u);
                            }
                            uint4 _2442;
                            if ((_1515 + 1u) < p.cols)
                            {
                                _2442 = _152.weights[_1522 + 2u];
                            }
                            else
                            {
                                _2442 = uint4(0u);
                            }
                            uint4 _2460;
                            if ((_1515 + 2u) < p.cols)
                            {
                                _2460 = _152.weights[_1522 + 4u];
                            }
                            else
                            {
                                _2460 = uint4(0u);
                            }
                            uint4 _2478;
                            if ((_1515 + 3u) < p.cols)
                            {
                                _2478 = _152.weights[_1522 + 6u];
                            }
                            else
                            {
                                _2478 = uint4(0u);
                            }
                            uint4 _3062[4] = { _2175, _2442, _2460, _2478 };
                            spvArrayCopyFromStackToStack1(raw[_2094], _3062);
                        }
                        if (_1014)
                        {
                            hidden[_2094][0u] = _1033.x[(((p.first_expert + slot_expert[_954]) * 64u) * p.x_stride) + (_894 >> uint(1))];
                        }
                    }
                    for (uint _2095 = 0u; _2095 < 4u; _2095++)
                    {
                        bool _1069 = _2095 >= _1068;
                        bool _1082;
                        if (!_1069)
                        {
                            bool _1081;
                            if (_1073)
                            {
                                _1081 = (_2091 + _2095) >= _2090;
                            }
                            else
                            {
                                _1081 = _1073;
                            }
                            _1082 = _1081;
                        }
                        else
                        {
                            _1082 = _1069;
                        }
                        if (_1082)
                        {
                            continue;
                        }
                        uint _1094 = _898 + min((_2091 + _2095), (_2090 - 1u));
                        uint _2102;
                        if ((_2091 + _2095) < _2090)
                        {
                            _2102 = slot_mask[_1094];
                        }
                        else
                        {
                            _2102 = 0u;
                        }
                        if (_1109 && (_2102 == 0u))
                        {
                            continue;
                        }
                        float4 _1570 = float4(as_type<float>(raw[_2095][0].x), as_type<float>(raw[_2095][1].x), as_type<float>(raw[_2095][2].x), as_type<float>(raw[_2095][3].x)) * 64.0;
                        half2 _1575 = half2(_1570.xz);
                        half2 _1582 = half2(_1570.yw);
                        float4 _2552 = float4(as_type<float>(raw[_2095][0].y), as_type<float>(raw[_2095][1].y), as_type<float>(raw[_2095][2].y), as_type<float>(raw[_2095][3].y)) * 64.0;
                        half2 _2555 = half2(_2552.xz);
                        half2 _2560 = half2(_2552.yw);
                        float4 _2571 = float4(as_type<float>(raw[_2095][0].z), as_type<float>(raw[_2095][1].z), as_type<float>(raw[_2095][2].z), as_type<float>(raw[_2095][3].z)) * 64.0;
                        half2 _2574 = half2(_2571.xz);
                        half2 _2579 = half2(_2571.yw);
                        float4 _2590 = float4(as_type<float>(raw[_2095][0].w), as_type<float>(raw[_2095][1].w), as_type<float>(raw[_2095][2].w), as_type<float>(raw[_2095][3].w)) * 64.0;
                        half2 _2593 = half2(_2590.xz);
                        half2 _2598 = half2(_2590.yw);
                        uint _1145 = (((p.first_expert + slot_expert[_1094]) * 64u) + _654) * p.x_stride;
                        uint _2108;
                        _2108 = 0u;
                        uint _1218;
                        for (uint _2107 = 0u; _2107 < TOKENS; _2108 = _1218, _2107++)
                        {
                            float4 _2158;
                            if (_1164)
                            {
                                _2158 = hidden[_2095][0u];
                            }
                            else
                            {
                                _2158 = _1033.x[(_1145 + (_2107 * p.x_stride)) + (_894 >> uint(1))];
                            }
                            bool _1196 = ((_2102 >> _2107) & 1u) != 0u;
                            half2 _1661 = half2(_2158.xz);
                            half2 _1670 = half2(_2158.yw);
                            half2 _1689 = max(abs(_1661), abs(_1670));
                            half _1698 = max(_1689.x, _1689.y);
                            half2 _1720 = max(abs(_1575), abs(_1582));
                            half _1725 = max(_1720.x, _1720.y);
                            half2 _2641 = max(abs(_2555), abs(_2560));
                            half _2644 = max(_2641.x, _2641.y);
                            half2 _2666 = max(abs(_2574), abs(_2579));
                            half _2669 = max(_2666.x, _2666.y);
                            half2 _2691 = max(abs(_2593), abs(_2598));
                            half _2694 = max(_2691.x, _2691.y);
                            bool _2698 = (((((((((_1698 >= half(0.03125)) && (_1698 <= half(64.0))) && (_1725 >= half(0.03125))) && (_1725 <= half(256.0))) && (_2644 >= half(0.03125))) && (_2644 <= half(256.0))) && (_2669 >= half(0.03125))) && (_2669 <= half(256.0))) && (_2694 >= half(0.03125))) && (_2694 <= half(256.0));
                            half2 _1766 = fma(_1582, _1670, spvFMul(_1575, _1661));
                            half2 _2724 = fma(_2560, _1670, _2555 * _1661);
                            half2 _2760 = fma(_2579, _1670, _2574 * _1661);
                            half2 _2796 = fma(_2598, _1670, _2593 * _1661);
                            uint _2142;
                            if (_1196 && (!_2698))
                            {
                                _2142 = 1u << _2107;
                            }
                            else
                            {
                                _2142 = 0u;
                            }
                            _1218 = _2108 | _2142;
                            uint _1223 = (_1094 * TOKENS) + _2107;
                            uint _1246 = _2107 * 4u;
                            bool _1258 = _1196 && _2698;
                            float _2152;
                            if (_1258)
                            {
                                _2152 = fma(spvFMul(slot_weight[_1223], 1.0), spvFMul(spvFAdd(float(_1766.x), float(_1766.y)), 0.015625), acc[_1246]);
                            }
                            else
                            {
                                _2152 = acc[_1246];
                            }
                            acc[_1246] = _2152;
                            uint _2820 = _1246 + 1u;
                            float _2834;
                            if (_1258)
                            {
                                _2834 = fma(slot_weight[_1223], (float(_2724.x) + float(_2724.y)) * 0.015625, acc[_2820]);
                            }
                            else
                            {
                                _2834 = acc[_2820];
                            }
                            acc[_2820] = _2834;
                            uint _2849 = _1246 + 2u;
                            float _2863;
                            if (_1258)
                            {
                                _2863 = fma(slot_weight[_1223], (float(_2760.x) + float(_2760.y)) * 0.015625, acc[_2849]);
                            }
                            else
                            {
                                _2863 = acc[_2849];
                            }
                            acc[_2849] = _2863;
                            uint _2878 = _1246 + 3u;
                            float _2892;
                            if (_1258)
                            {
                                _2892 = fma(slot_weight[_1223], (float(_2796.x) + float(_2796.y)) * 0.015625, acc[_2878]);
                            }
                            else
                            {
                                _2892 = acc[_2878];
                            }
                            acc[_2878] = _2892;
                        }
                        if (_2108 == 0u)
                        {
                            continue;
                        }
                        float4 _3143[4] = { float4(as_type<float>(raw[_2095][0].x), as_type<float>(raw[_2095][1].x), as_type<float>(raw[_2095][2].x), as_type<float>(raw[_2095][3].x)), float4(as_type<float>(raw[_2095][0].y), as_type<float>(raw[_2095][1].y), as_type<float>(raw[_2095][2].y), as_type<float>(raw[_2095][3].y)), float4(as_type<float>(raw[_2095][0].z), as_type<float>(raw[_2095][1].z), as_type<float>(raw[_2095][2].z), as_type<float>(raw[_2095][3].z)), float4(as_type<float>(raw[_2095][0].w), as_type<float>(raw[_2095][1].w), as_type<float>(raw[_2095][2].w), as_type<float>(raw[_2095][3].w)) };
                        for (uint _2115 = 0u; _2115 < TOKENS; _2115++)
                        {
                            uint _1299 = _2108 >> _2115;
                            if ((_1299 & 1u) == 0u)
                            {
                                continue;
                            }
                            uint _1332 = ((_1145 + (_2115 * p.x_stride)) + (_894 >> uint(1))) + uint(int(popcount((~_1299) & (_1299 - 1u))));
                            float4 param[4];
                            spvArrayCopyFromStackToStack1(param, _3143);
                            for (uint _2119 = 0u; _2119 < 4u; )
                            {
                                param_1[_2119] = fma(param[_2119].w, _1033.x[_1332].w, fma(param[_2119].z, _1033.x[_1332].z, fma(param[_2119].y, _1033.x[_1332].y, spvFMul(param[_2119].x, _1033.x[_1332].x))));
                                _2119++;
                                continue;
                            }
                            uint _1358 = (_1094 * TOKENS) + _2115;
                            uint _1371 = _2115 * 4u;
                            acc[_1371] = fma(spvFMul(slot_weight[_1358], 1.0), param_1[0], acc[_1371]);
                            uint _2974 = _1371 + 1u;
                            acc[_2974] = fma(slot_weight[_1358], param_1[1], acc[_2974]);
                            uint _2998 = _1371 + 2u;
                            acc[_2998] = fma(slot_weight[_1358], param_1[2], acc[_2998]);
                            uint _3022 = _1371 + 3u;
                            acc[_3022] = fma(slot_weight[_1358], param_1[3], acc[_3022]);
                        }
                    }
                }
            }
        }
        float param_2[32];
        spvArrayCopyFromStackToStack1(param_2, acc);
        for (uint _2071 = 0u; _2071 < _538; )
        {
            partial[(_2071 * THREADS) + gl_LocalInvocationID.x] = param_2[_2071];
            _2071++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _2072 = gl_LocalInvocationID.x; _2072 < _567; _2072 += THREADS)
        {
            uint _1977 = (((_2072 / 16u) * THREADS) + ((_2072 / 8u) % 2u)) + (2u * (_2072 % 8u));
            float _2079;
            _2079 = partial[_1977];
            for (uint _2077 = 16u; _2077 < THREADS; )
            {
                _2079 = spvFAdd(_2079, partial[_1977 + _2077]);
                _2077 += 16u;
                continue;
            }
            chunk_sums[_2072] = _2079;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _1409 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _1414 = _654 + (gl_LocalInvocationID.x / 8u);
        bool _1417 = gl_LocalInvocationID.x >= _1416;
        bool _1426;
        if (!_1417)
        {
            _1426 = _1409 >= p.rows;
        }
        else
        {
            _1426 = _1417;
        }
        if (_1426)
        {
            break;
        }
        uint _1437 = (_1414 * p.y_stride) + _1409;
        uint _1442 = gl_LocalInvocationID.x % 8u;
        uint _2018 = (((((gl_LocalInvocationID.x / 8u) * 4u) + (_1442 % 4u)) * 2u) + (_1442 / 4u)) * 8u;
        float _2425 = (((((spvFAdd(chunk_sums[_2018], chunk_sums[_2018 + 1u]) + chunk_sums[_2018 + 2u]) + chunk_sums[_2018 + 3u]) + chunk_sums[_2018 + 4u]) + chunk_sums[_2018 + 5u]) + chunk_sums[_2018 + 6u]) + chunk_sums[_2018 + 7u];
        float _2075;
        if ((p.flags & 1u) != 0u)
        {
            _2075 = spvFAdd(_2425, _1456.y[_1437]);
        }
        else
        {
            _2075 = _2425;
        }
        float _2076;
        if ((p.flags & 2u) != 0u)
        {
            _2076 = spvFAdd(_2075, _1472.residual[(_1414 * p.residual_stride) + _1409]);
        }
        else
        {
            _2076 = _2075;
        }
        _1456.y[_1437] = _2076;
        break;
    } while(false);
}

