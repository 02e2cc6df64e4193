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
constant uint _539 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _542 = (THREADS * TOKENS);
constant uint _543 = (_542 * 4u);
constant uint _568 = (64u * TOKENS);
constant uint _604 = (64u * TOKENS);
constant bool _656 = (TOKENS > 1u);

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

constant uint _718 = (TOKENS * 4u);

struct Route
{
    uint route[1];
};

constant uint _835 = (1u << TOKENS);
constant uint _836 = (_835 - 1u);
constant uint _849 = (64u * TOKENS);
constant bool _940 = (TOKENS == 1u);
constant int _941 = _940 ? 4 : 4;
constant uint _942 = (uint(_941) + 0u);
constant bool _960 = (TOKENS == 1u);
constant bool _1015 = (TOKENS == 1u);

struct X
{
    float4 x[1];
};

constant bool _1067 = (TOKENS == 1u);
constant int _1068 = _1067 ? 4 : 4;
constant uint _1069 = (uint(_1068) + 0u);
constant bool _1074 = (TOKENS != 1u);
constant bool _1110 = (TOKENS != 1u);
constant bool _1164 = (TOKENS == 1u);
constant bool _1270 = (TOKENS == 1u);
constant int _1271 = _1270 ? 4 : 4;
constant uint _1272 = (uint(_1271) + 0u);
constant uint _1297 = (8u * TOKENS);

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
constant uint _1368 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1368, 1u, 1u);

kernel void expert_down_fp32_fp16(constant Push& p [[buffer(0)]], const device Weights& _151 [[buffer(1)]], const device X& _1034 [[buffer(2)]], device Y& _1337 [[buffer(3)]], const device Route& _737 [[buffer(4)]], const device Step& _663 [[buffer(5)]], const device Residual& _1353 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_543];
    threadgroup float chunk_sums[_604];
    threadgroup uint counts[8];
    threadgroup uint slot_expert[64];
    threadgroup uint slot_mask[64];
    threadgroup float slot_weight[_849];
    do
    {
        uint _655 = gl_WorkGroupID.y * TOKENS;
        bool _668;
        if (_656)
        {
            _668 = _655 >= _663.step_[0];
        }
        else
        {
            _668 = _656;
        }
        if (_668)
        {
            break;
        }
        uint _1380 = ((p.cols + 3u) / 4u) * 2u;
        uint _686 = THREADS / p.classes;
        uint _690 = gl_LocalInvocationID.x / _686;
        uint _694 = 64u / p.classes;
        uint _1388 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _710 = 16u + ((_1388 * p.classes) * 4u);
        float acc[32];
        for (uint _1950 = 0u; _1950 < _718; )
        {
            acc[_1950] = 0.0;
            _1950++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _737.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[4][4];
        float4 hidden[4][1];
        float _1534[4];
        uint _1962;
        for (uint _1951 = 0u, _1963 = 1u; _1951 < _1380; _1963 = _1962, _1951 += _686)
        {
            _1962 = _1963;
            uint _2036;
            for (uint _1961 = 0u; _1961 < _1962; _1962 = _2036, _1961 += _694)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _1965;
                _1965 = gl_LocalInvocationID.x;
                for (; _1965 < 64u; _1965 += THREADS)
                {
                    uint _788 = ((_1965 / _694) * _1388) + min((_1961 + (_1965 % _694)), (_1388 - 1u));
                    uint _792 = 16u + (_788 * 4u);
                    uint _797 = _737.route[_792] - p.first_expert;
                    bool _806 = _797 < p.experts;
                    slot_expert[_1965] = _806 ? _797 : 0u;
                    uint _2038;
                    if (_806)
                    {
                        _2038 = (_737.route[_792 + uint((_655 < 32u) ? 1 : 2)] >> (_655 & 31u)) & _836;
                    }
                    else
                    {
                        _2038 = 0u;
                    }
                    slot_mask[_1965] = _2038;
                    for (uint _2039 = 0u; _2039 < TOKENS; )
                    {
                        slot_weight[(_1965 * TOKENS) + _2039] = as_type<float>(_737.route[((_710 + (_788 * 64u)) + _655) + _2039]);
                        _2039++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _2036 = _1962;
                for (uint _1966 = 0u; _1966 < p.classes; )
                {
                    _2036 = max(_2036, counts[_1966]);
                    _1966++;
                    continue;
                }
                uint _895 = _1951 + (gl_LocalInvocationID.x % _686);
                uint _899 = _690 * _694;
                uint _1971;
                if ((_895 < _1380) && (counts[_690] > _1961))
                {
                    _1971 = min((counts[_690] - _1961), _694);
                }
                else
                {
                    _1971 = 0u;
                }
                for (uint _1972 = 0u; _1972 < _1971; _1972 += _1272)
                {
                    for (uint _1975 = 0u; _1975 < 4u; _1975++)
                    {
                        if (_1975 >= _942)
                        {
                            continue;
                        }
                        uint _951 = _1972 + _1975;
                        uint _955 = _899 + min(_951, (_1971 - 1u));
                        bool _976;
                        if (!_960)
                        {
                            bool _968 = _951 < _1971;
                            bool _975;
                            if (_968)
                            {
                                _975 = slot_mask[_955] != 0u;
                            }
                            else
                            {
                                _975 = _968;
                            }
                            _976 = _975;
                        }
                        else
                        {
                            _976 = _960;
                        }
                        if (_976)
                        {
                            uint _1395 = _895 >> uint(1);
                            uint _1396 = _1395 * 4u;
                            uint _1403 = (((p.first + (slot_expert[_955] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors)) + (_1395 * 8u)) + (_895 & 1u);
                            uint4 _2032;
                            if (_1396 < p.cols)
                            {
                                _2032 = _151.weights[_1403];
                            }
                            else
                            {
                                _2032 = uint4(0u);
                            }
                            uint4 _2278;
                            if ((_1396 + 1u) < p.cols)
                            {
                                _2278 = _151.weights[_1403 + 2u];
                            }
                            else
                            {
                                _2278 = uint4(0u);
                            }
                            uint4 _2296;
                            if ((_1396 + 2u) < p.cols)
                            {
                                _2296 = _151.weights[_1403 + 4u];
                            }
                            else
                            {
                                _2296 = uint4(0u);
                            }
                            uint4 _2314;
                            if ((_1396 + 3u) < p.cols)
                            {
                                _2314 = _151.weights[_1403 + 6u];
                            }
                            else
                            {
                                _2314 = uint4(0u);
                            }
                            uint4 _2848[4] = { _2032, _2278, _2296, _2314 };
                            spvArrayCopyFromStackToStack1(raw[_1975], _2848);
                        }
                        if (_1015)
                        {
                            hidden[_1975][0u] = _1034.x[(((p.first_expert + slot_expert[_955]) * 64u) * p.x_stride) + (_895 >> uint(1))];
                        }
                    }
                    for (uint _1976 = 0u; _1976 < 4u; _1976++)
                    {
                        bool _1070 = _1976 >= _1069;
                        bool _1083;
                        if (!_1070)
                        {
                            bool _1082;
                            if (_1074)
                            {
                                _1082 = (_1972 + _1976) >= _1971;
                            }
                            else
                            {
                                _1082 = _1074;
                            }
                            _1083 = _1082;
                        }
                        else
                        {
                            _1083 = _1070;
                        }
                        if (_1083)
                        {
                            continue;
                        }
                        uint _1095 = _899 + min((_1972 + _1976), (_1971 - 1u));
                        uint _1983;
                        if ((_1972 + _1976) < _1971)
                        {
                            _1983 = slot_mask[_1095];
                        }
                        else
                        {
                            _1983 = 0u;
                        }
                        if (_1110 && (_1983 == 0u))
                        {
                            continue;
                        }
                        float4 _1451 = float4(as_type<float>(raw[_1976][0].x), as_type<float>(raw[_1976][1].x), as_type<float>(raw[_1976][2].x), as_type<float>(raw[_1976][3].x)) * 64.0;
                        half2 _1456 = half2(_1451.xz);
                        half2 _1463 = half2(_1451.yw);
                        float4 _2388 = float4(as_type<float>(raw[_1976][0].y), as_type<float>(raw[_1976][1].y), as_type<float>(raw[_1976][2].y), as_type<float>(raw[_1976][3].y)) * 64.0;
                        half2 _2391 = half2(_2388.xz);
                        half2 _2396 = half2(_2388.yw);
                        float4 _2407 = float4(as_type<float>(raw[_1976][0].z), as_type<float>(raw[_1976][1].z), as_type<float>(raw[_1976][2].z), as_type<float>(raw[_1976][3].z)) * 64.0;
                        half2 _2410 = half2(_2407.xz);
                        half2 _2415 = half2(_2407.yw);
                        float4 _2426 = float4(as_type<float>(raw[_1976][0].w), as_type<float>(raw[_1976][1].w), as_type<float>(raw[_1976][2].w), as_type<float>(raw[_1976][3].w)) * 64.0;
                        half2 _2429 = half2(_2426.xz);
                        half2 _2434 = half2(_2426.yw);
                        uint _1142 = ((p.first_expert + slot_expert[_1095]) * 64u) + _655;
                        for (uint _1988 = 0u; _1988 < TOKENS; _1988++)
                        {
                            float4 _2022;
                            if (_1164)
                            {
                                _2022 = hidden[_1976][0u];
                            }
                            else
                            {
                                _2022 = _1034.x[(p.x_stride * (_1142 + _1988)) + (_895 >> uint(1))];
                            }
                            bool _1196 = ((_1983 >> _1988) & 1u) != 0u;
                            half2 _1547 = half2(_2022.xz);
                            half2 _1556 = half2(_2022.yw);
                            half2 _1575 = max(abs(_1547), abs(_1556));
                            half _1584 = max(_1575.x, _1575.y);
                            half2 _1606 = max(abs(_1456), abs(_1463));
                            half _1611 = max(_1606.x, _1606.y);
                            half2 _2477 = max(abs(_2391), abs(_2396));
                            half _2480 = max(_2477.x, _2477.y);
                            half2 _2502 = max(abs(_2410), abs(_2415));
                            half _2505 = max(_2502.x, _2502.y);
                            half2 _2527 = max(abs(_2429), abs(_2434));
                            half _2530 = max(_2527.x, _2527.y);
                            half2 _1652 = fma(_1463, _1556, spvFMul(_1456, _1547));
                            half2 _2560 = fma(_2396, _1556, _2391 * _1547);
                            half2 _2596 = fma(_2415, _1556, _2410 * _1547);
                            half2 _2632 = fma(_2434, _1556, _2429 * _1547);
                            float _2961;
                            float _2962;
                            float _2963;
                            float _2964;
                            if (_1196 && (!((((((((((_1584 >= half(0.03125)) && (_1584 <= half(64.0))) && (_1611 >= half(0.03125))) && (_1611 <= half(256.0))) && (_2480 >= half(0.03125))) && (_2480 <= half(256.0))) && (_2505 >= half(0.03125))) && (_2505 <= half(256.0))) && (_2530 >= half(0.03125))) && (_2530 <= half(256.0)))))
                            {
                                float4 _2816[4] = { float4(as_type<float>(raw[_1976][0].x), as_type<float>(raw[_1976][1].x), as_type<float>(raw[_1976][2].x), as_type<float>(raw[_1976][3].x)), float4(as_type<float>(raw[_1976][0].y), as_type<float>(raw[_1976][1].y), as_type<float>(raw[_1976][2].y), as_type<float>(raw[_1976][3].y)), float4(as_type<float>(raw[_1976][0].z), as_type<float>(raw[_1976][1].z), as_type<float>(raw[_1976][2].z), as_type<float>(raw[_1976][3].z)), float4(as_type<float>(raw[_1976][0].w), as_type<float>(raw[_1976][1].w), as_type<float>(raw[_1976][2].w), as_type<float>(raw[_1976][3].w)) };
                                float4 _1532[4];
                                spvArrayCopyFromStackToStack1(_1532, _2816);
                                for (uint _2004 = 0u; _2004 < 4u; )
                                {
                                    _1534[_2004] = fma(_1532[_2004].w, _2022.w, fma(_1532[_2004].z, _2022.z, fma(_1532[_2004].y, _2022.y, spvFMul(_1532[_2004].x, _2022.x))));
                                    _2004++;
                                    continue;
                                }
                                _2964 = _1534[0];
                                _2963 = _1534[1];
                                _2962 = _1534[2];
                                _2961 = _1534[3];
                            }
                            else
                            {
                                _2964 = spvFMul(spvFAdd(float(_1652.x), float(_1652.y)), 0.015625);
                                _2963 = (float(_2560.x) + float(_2560.y)) * 0.015625;
                                _2962 = (float(_2596.x) + float(_2596.y)) * 0.015625;
                                _2961 = (float(_2632.x) + float(_2632.y)) * 0.015625;
                            }
                            uint _1213 = (_1095 * TOKENS) + _1988;
                            uint _1236 = _1988 * 4u;
                            float _2014;
                            if (_1196)
                            {
                                _2014 = fma(spvFMul(slot_weight[_1213], 1.0), _2964, acc[_1236]);
                            }
                            else
                            {
                                _2014 = acc[_1236];
                            }
                            acc[_1236] = _2014;
                            uint _2719 = _1236 + 1u;
                            float _2735;
                            if (_1196)
                            {
                                _2735 = fma(slot_weight[_1213], _2963, acc[_2719]);
                            }
                            else
                            {
                                _2735 = acc[_2719];
                            }
                            acc[_2719] = _2735;
                            uint _2750 = _1236 + 2u;
                            float _2766;
                            if (_1196)
                            {
                                _2766 = fma(slot_weight[_1213], _2962, acc[_2750]);
                            }
                            else
                            {
                                _2766 = acc[_2750];
                            }
                            acc[_2750] = _2766;
                            uint _2781 = _1236 + 3u;
                            float _2797;
                            if (_1196)
                            {
                                _2797 = fma(slot_weight[_1213], _2961, acc[_2781]);
                            }
                            else
                            {
                                _2797 = acc[_2781];
                            }
                            acc[_2781] = _2797;
                        }
                    }
                }
            }
        }
        float param[32];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1952 = 0u; _1952 < _539; )
        {
            partial[(_1952 * THREADS) + gl_LocalInvocationID.x] = param[_1952];
            _1952++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1953 = gl_LocalInvocationID.x; _1953 < _568; _1953 += THREADS)
        {
            uint _1858 = (((_1953 / 16u) * THREADS) + ((_1953 / 8u) % 2u)) + (2u * (_1953 % 8u));
            float _1960;
            _1960 = partial[_1858];
            for (uint _1958 = 16u; _1958 < THREADS; )
            {
                _1960 = spvFAdd(_1960, partial[_1858 + _1958]);
                _1958 += 16u;
                continue;
            }
            chunk_sums[_1953] = _1960;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _1290 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _1295 = _655 + (gl_LocalInvocationID.x / 8u);
        bool _1298 = gl_LocalInvocationID.x >= _1297;
        bool _1307;
        if (!_1298)
        {
            _1307 = _1290 >= p.rows;
        }
        else
        {
            _1307 = _1298;
        }
        if (_1307)
        {
            break;
        }
        uint _1318 = (_1295 * p.y_stride) + _1290;
        uint _1323 = gl_LocalInvocationID.x % 8u;
        uint _1899 = (((((gl_LocalInvocationID.x / 8u) * 4u) + (_1323 % 4u)) * 2u) + (_1323 / 4u)) * 8u;
        float _2261 = (((((spvFAdd(chunk_sums[_1899], chunk_sums[_1899 + 1u]) + chunk_sums[_1899 + 2u]) + chunk_sums[_1899 + 3u]) + chunk_sums[_1899 + 4u]) + chunk_sums[_1899 + 5u]) + chunk_sums[_1899 + 6u]) + chunk_sums[_1899 + 7u];
        float _1956;
        if ((p.flags & 1u) != 0u)
        {
            _1956 = spvFAdd(_2261, _1337.y[_1318]);
        }
        else
        {
            _1956 = _2261;
        }
        float _1957;
        if ((p.flags & 2u) != 0u)
        {
            _1957 = spvFAdd(_1956, _1353.residual[(_1295 * p.residual_stride) + _1290]);
        }
        else
        {
            _1957 = _1956;
        }
        _1337.y[_1318] = _1957;
        break;
    } while(false);
}

