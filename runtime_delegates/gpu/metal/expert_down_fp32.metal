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
constant uint _307 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _310 = (THREADS * TOKENS);
constant uint _311 = (_310 * 4u);
constant uint _336 = (64u * TOKENS);
constant uint _373 = (64u * TOKENS);
constant bool _425 = (TOKENS > 1u);

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

constant uint _487 = (TOKENS * 4u);

struct Route
{
    uint route[1];
};

constant uint _599 = (1u << TOKENS);
constant uint _600 = (_599 - 1u);
constant uint _613 = (64u * TOKENS);
constant bool _704 = (TOKENS == 1u);
constant bool _706 = (_704 && false);
constant int _708 = _706 ? 8 : 2;
constant uint _709 = (uint(_708) + 0u);
constant bool _785 = (TOKENS == 1u);
constant bool _786 = (_785 && false);
constant int _787 = _786 ? 8 : 2;
constant uint _788 = (uint(_787) + 0u);

struct X
{
    float4 x[1];
};

constant bool _956 = (TOKENS == 1u);
constant bool _957 = (_956 && false);
constant int _958 = _957 ? 8 : 2;
constant uint _959 = (uint(_958) + 0u);
constant uint _984 = (8u * TOKENS);

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1032 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1032, 1u, 1u);

kernel void expert_down_fp32(constant Push& p [[buffer(0)]], const device Weights& _132 [[buffer(1)]], const device X& _868 [[buffer(2)]], device Y& _1022 [[buffer(3)]], const device Route& _506 [[buffer(4)]], const device Step& _432 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_311];
    threadgroup float chunk_sums[_373];
    threadgroup uint counts[8];
    threadgroup uint slot_expert[64];
    threadgroup uint slot_mask[64];
    threadgroup float slot_weight[_613];
    do
    {
        uint _424 = gl_WorkGroupID.y * TOKENS;
        bool _437;
        if (_425)
        {
            _437 = _424 >= _432.step_[0];
        }
        else
        {
            _437 = _425;
        }
        if (_437)
        {
            break;
        }
        uint _1044 = ((p.cols + 3u) / 4u) * 2u;
        uint _455 = THREADS / p.classes;
        uint _459 = gl_LocalInvocationID.x / _455;
        uint _463 = 64u / p.classes;
        uint _1052 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _479 = 16u + ((_1052 * p.classes) * 4u);
        float acc[32];
        for (uint _1357 = 0u; _1357 < _487; )
        {
            acc[_1357] = 0.0;
            _1357++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _506.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[2][4];
        float param_1[4];
        uint _1368;
        for (uint _1358 = 0u, _1369 = 1u; _1358 < _1044; _1369 = _1368, _1358 += _455)
        {
            _1368 = _1369;
            uint _1419;
            for (uint _1367 = 0u; _1367 < _1368; _1368 = _1419, _1367 += _463)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _1371;
                _1371 = gl_LocalInvocationID.x;
                for (; _1371 < 64u; _1371 += THREADS)
                {
                    uint _557 = ((_1371 / _463) * _1052) + min((_1367 + (_1371 % _463)), (_1052 - 1u));
                    uint _561 = 16u + (_557 * 4u);
                    uint _566 = _506.route[_561] - p.first_expert;
                    slot_expert[_1371] = _566;
                    uint _1421;
                    if (_566 < p.experts)
                    {
                        _1421 = (_506.route[_561 + uint((_424 < 32u) ? 1 : 2)] >> (_424 & 31u)) & _600;
                    }
                    else
                    {
                        _1421 = 0u;
                    }
                    slot_mask[_1371] = _1421;
                    for (uint _1422 = 0u; _1422 < TOKENS; )
                    {
                        slot_weight[(_1371 * TOKENS) + _1422] = as_type<float>(_506.route[((_479 + (_557 * 64u)) + _424) + _1422]);
                        _1422++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _1419 = _1368;
                for (uint _1372 = 0u; _1372 < p.classes; )
                {
                    _1419 = max(_1419, counts[_1372]);
                    _1372++;
                    continue;
                }
                uint _659 = _1358 + (gl_LocalInvocationID.x % _455);
                uint _663 = _459 * _463;
                uint _1377;
                if ((_659 < _1044) && (counts[_459] > _1367))
                {
                    _1377 = min((counts[_459] - _1367), _463);
                }
                else
                {
                    _1377 = 0u;
                }
                for (uint _1378 = 0u; _1378 < _1377; _1378 += _959)
                {
                    for (uint _1381 = 0u; _1381 < 2u; _1381++)
                    {
                        bool _710 = _1381 < _709;
                        bool _718;
                        if (_710)
                        {
                            _718 = (_1378 + _1381) < _1377;
                        }
                        else
                        {
                            _718 = _710;
                        }
                        bool _729;
                        if (_718)
                        {
                            _729 = slot_mask[(_663 + _1378) + _1381] != 0u;
                        }
                        else
                        {
                            _729 = _718;
                        }
                        if (_729)
                        {
                            uint _1059 = _659 >> uint(1);
                            uint _1060 = _1059 * 4u;
                            uint _1067 = (((p.first + (slot_expert[(_663 + _1378) + _1381] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors)) + (_1059 * 8u)) + (_659 & 1u);
                            uint4 _1417;
                            if (_1060 < p.cols)
                            {
                                _1417 = _132.weights[_1067];
                            }
                            else
                            {
                                _1417 = uint4(0u);
                            }
                            uint4 _1588;
                            if ((_1060 + 1u) < p.cols)
                            {
                                _1588 = _132.weights[_1067 + 2u];
                            }
                            else
                            {
                                _1588 = uint4(0u);
                            }
                            uint4 _1606;
                            if ((_1060 + 2u) < p.cols)
                            {
                                _1606 = _132.weights[_1067 + 4u];
                            }
                            else
                            {
                                _1606 = uint4(0u);
                            }
                            uint4 _1624;
                            if ((_1060 + 3u) < p.cols)
                            {
                                _1624 = _132.weights[_1067 + 6u];
                            }
                            else
                            {
                                _1624 = uint4(0u);
                            }
                            uint4 _1821[4] = { _1417, _1588, _1606, _1624 };
                            spvArrayCopyFromStackToStack1(raw[_1381], _1821);
                        }
                    }
                    for (uint _1382 = 0u; _1382 < 2u; _1382++)
                    {
                        bool _789 = _1382 >= _788;
                        bool _798;
                        if (!_789)
                        {
                            _798 = (_1378 + _1382) >= _1377;
                        }
                        else
                        {
                            _798 = _789;
                        }
                        if (_798)
                        {
                            continue;
                        }
                        uint _807 = (_663 + _1378) + _1382;
                        if (slot_mask[_807] == 0u)
                        {
                            continue;
                        }
                        float4 _1830[4] = { float4(as_type<float>(raw[_1382][0].x), as_type<float>(raw[_1382][1].x), as_type<float>(raw[_1382][2].x), as_type<float>(raw[_1382][3].x)), float4(as_type<float>(raw[_1382][0].y), as_type<float>(raw[_1382][1].y), as_type<float>(raw[_1382][2].y), as_type<float>(raw[_1382][3].y)), float4(as_type<float>(raw[_1382][0].z), as_type<float>(raw[_1382][1].z), as_type<float>(raw[_1382][2].z), as_type<float>(raw[_1382][3].z)), float4(as_type<float>(raw[_1382][0].w), as_type<float>(raw[_1382][1].w), as_type<float>(raw[_1382][2].w), as_type<float>(raw[_1382][3].w)) };
                        uint _842 = ((p.first_expert + slot_expert[_807]) * 64u) + _424;
                        for (uint _1389 = 0u; _1389 < TOKENS; _1389++)
                        {
                            uint _880 = (p.x_stride * (_842 + _1389)) + (_659 >> uint(1));
                            float4 param[4];
                            spvArrayCopyFromStackToStack1(param, _1830);
                            for (uint _1391 = 0u; _1391 < 4u; )
                            {
                                param_1[_1391] = fma(param[_1391].w, _868.x[_880].w, fma(param[_1391].z, _868.x[_880].z, fma(param[_1391].y, _868.x[_880].y, spvFMul(param[_1391].x, _868.x[_880].x))));
                                _1391++;
                                continue;
                            }
                            uint _899 = (_807 * TOKENS) + _1389;
                            uint _922 = _1389 * 4u;
                            bool _936 = ((slot_mask[_807] >> _1389) & 1u) != 0u;
                            float _1396;
                            if (_936)
                            {
                                _1396 = fma(spvFMul(slot_weight[_899], 1.0), param_1[0], acc[_922]);
                            }
                            else
                            {
                                _1396 = acc[_922];
                            }
                            acc[_922] = _1396;
                            uint _1726 = _922 + 1u;
                            float _1742;
                            if (_936)
                            {
                                _1742 = fma(slot_weight[_899], param_1[1], acc[_1726]);
                            }
                            else
                            {
                                _1742 = acc[_1726];
                            }
                            acc[_1726] = _1742;
                            uint _1757 = _922 + 2u;
                            float _1773;
                            if (_936)
                            {
                                _1773 = fma(slot_weight[_899], param_1[2], acc[_1757]);
                            }
                            else
                            {
                                _1773 = acc[_1757];
                            }
                            acc[_1757] = _1773;
                            uint _1788 = _922 + 3u;
                            float _1804;
                            if (_936)
                            {
                                _1804 = fma(slot_weight[_899], param_1[3], acc[_1788]);
                            }
                            else
                            {
                                _1804 = acc[_1788];
                            }
                            acc[_1788] = _1804;
                        }
                    }
                }
            }
        }
        float param_2[32];
        spvArrayCopyFromStackToStack1(param_2, acc);
        for (uint _1359 = 0u; _1359 < _307; )
        {
            partial[(_1359 * THREADS) + gl_LocalInvocationID.x] = param_2[_1359];
            _1359++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1360 = gl_LocalInvocationID.x; _1360 < _336; _1360 += THREADS)
        {
            uint _1283 = (((_1360 / 16u) * THREADS) + ((_1360 / 8u) % 2u)) + (2u * (_1360 % 8u));
            float _1366;
            _1366 = partial[_1283];
            for (uint _1364 = 16u; _1364 < THREADS; )
            {
                _1366 = spvFAdd(_1366, partial[_1283 + _1364]);
                _1364 += 16u;
                continue;
            }
            chunk_sums[_1360] = _1366;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _977 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        bool _985 = gl_LocalInvocationID.x >= _984;
        bool _994;
        if (!_985)
        {
            _994 = _977 >= p.rows;
        }
        else
        {
            _994 = _985;
        }
        if (_994)
        {
            break;
        }
        uint _1004 = ((_424 + (gl_LocalInvocationID.x / 8u)) * p.y_stride) + _977;
        uint _1009 = gl_LocalInvocationID.x % 8u;
        uint _1324 = (((((gl_LocalInvocationID.x / 8u) * 4u) + (_1009 % 4u)) * 2u) + (_1009 / 4u)) * 8u;
        float _1571 = (((((spvFAdd(chunk_sums[_1324], chunk_sums[_1324 + 1u]) + chunk_sums[_1324 + 2u]) + chunk_sums[_1324 + 3u]) + chunk_sums[_1324 + 4u]) + chunk_sums[_1324 + 5u]) + chunk_sums[_1324 + 6u]) + chunk_sums[_1324 + 7u];
        float _1363;
        if (p.accumulate != 0u)
        {
            _1363 = spvFAdd(_1571, _1022.y[_1004]);
        }
        else
        {
            _1363 = _1571;
        }
        _1022.y[_1004] = _1363;
        break;
    } while(false);
}

