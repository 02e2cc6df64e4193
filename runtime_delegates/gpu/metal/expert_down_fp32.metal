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
    uint flags;
    uint residual_stride;
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

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1054 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1054, 1u, 1u);

kernel void expert_down_fp32(constant Push& p [[buffer(0)]], const device Weights& _132 [[buffer(1)]], const device X& _868 [[buffer(2)]], device Y& _1023 [[buffer(3)]], const device Route& _506 [[buffer(4)]], const device Step& _432 [[buffer(5)]], const device Residual& _1039 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
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
        uint _1066 = ((p.cols + 3u) / 4u) * 2u;
        uint _455 = THREADS / p.classes;
        uint _459 = gl_LocalInvocationID.x / _455;
        uint _463 = 64u / p.classes;
        uint _1074 = ((p.all_experts + p.classes) - 1u) / p.classes;
        uint _479 = 16u + ((_1074 * p.classes) * 4u);
        float acc[32];
        for (uint _1379 = 0u; _1379 < _487; )
        {
            acc[_1379] = 0.0;
            _1379++;
            continue;
        }
        if (gl_LocalInvocationID.x < 8u)
        {
            counts[gl_LocalInvocationID.x] = _506.route[4u + gl_LocalInvocationID.x];
        }
        uint4 raw[2][4];
        float param_1[4];
        uint _1391;
        for (uint _1380 = 0u, _1392 = 1u; _1380 < _1066; _1392 = _1391, _1380 += _455)
        {
            _1391 = _1392;
            uint _1442;
            for (uint _1390 = 0u; _1390 < _1391; _1391 = _1442, _1390 += _463)
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
                uint _1394;
                _1394 = gl_LocalInvocationID.x;
                for (; _1394 < 64u; _1394 += THREADS)
                {
                    uint _557 = ((_1394 / _463) * _1074) + min((_1390 + (_1394 % _463)), (_1074 - 1u));
                    uint _561 = 16u + (_557 * 4u);
                    uint _566 = _506.route[_561] - p.first_expert;
                    slot_expert[_1394] = _566;
                    uint _1444;
                    if (_566 < p.experts)
                    {
                        _1444 = (_506.route[_561 + uint((_424 < 32u) ? 1 : 2)] >> (_424 & 31u)) & _600;
                    }
                    else
                    {
                        _1444 = 0u;
                    }
                    slot_mask[_1394] = _1444;
                    for (uint _1445 = 0u; _1445 < TOKENS; )
                    {
                        slot_weight[(_1394 * TOKENS) + _1445] = as_type<float>(_506.route[((_479 + (_557 * 64u)) + _424) + _1445]);
                        _1445++;
                        continue;
                    }
                }
                threadgroup_barrier(mem_flags::mem_threadgroup);
                _1442 = _1391;
                for (uint _1395 = 0u; _1395 < p.classes; )
                {
                    _1442 = max(_1442, counts[_1395]);
                    _1395++;
                    continue;
                }
                uint _659 = _1380 + (gl_LocalInvocationID.x % _455);
                uint _663 = _459 * _463;
                uint _1400;
                if ((_659 < _1066) && (counts[_459] > _1390))
                {
                    _1400 = min((counts[_459] - _1390), _463);
                }
                else
                {
                    _1400 = 0u;
                }
                for (uint _1401 = 0u; _1401 < _1400; _1401 += _959)
                {
                    for (uint _1404 = 0u; _1404 < 2u; _1404++)
                    {
                        bool _710 = _1404 < _709;
                        bool _718;
                        if (_710)
                        {
                            _718 = (_1401 + _1404) < _1400;
                        }
                        else
                        {
                            _718 = _710;
                        }
                        bool _729;
                        if (_718)
                        {
                            _729 = slot_mask[(_663 + _1401) + _1404] != 0u;
                        }
                        else
                        {
                            _729 = _718;
                        }
                        if (_729)
                        {
                            uint _1081 = _659 >> uint(1);
                            uint _1082 = _1081 * 4u;
                            uint _1089 = (((p.first + (slot_expert[(_663 + _1401) + _1404] * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors)) + (_1081 * 8u)) + (_659 & 1u);
                            uint4 _1440;
                            if (_1082 < p.cols)
                            {
                                _1440 = _132.weights[_1089];
                            }
                            else
                            {
                                _1440 = uint4(0u);
                            }
                            uint4 _1611;
                            if ((_1082 + 1u) < p.cols)
                            {
                                _1611 = _132.weights[_1089 + 2u];
                            }
                            else
                            {
                                _1611 = uint4(0u);
                            }
                            uint4 _1629;
                            if ((_1082 + 2u) < p.cols)
                            {
                                _1629 = _132.weights[_1089 + 4u];
                            }
                            else
                            {
                                _1629 = uint4(0u);
                            }
                            uint4 _1647;
                            if ((_1082 + 3u) < p.cols)
                            {
                                _1647 = _132.weights[_1089 + 6u];
                            }
                            else
                            {
                                _1647 = uint4(0u);
                            }
                            uint4 _1844[4] = { _1440, _1611, _1629, _1647 };
                            spvArrayCopyFromStackToStack1(raw[_1404], _1844);
                        }
                    }
                    for (uint _1405 = 0u; _1405 < 2u; _1405++)
                    {
                        bool _789 = _1405 >= _788;
                        bool _798;
                        if (!_789)
                        {
                            _798 = (_1401 + _1405) >= _1400;
                        }
                        else
                        {
                            _798 = _789;
                        }
                        if (_798)
                        {
                            continue;
                        }
                        uint _807 = (_663 + _1401) + _1405;
                        if (slot_mask[_807] == 0u)
                        {
                            continue;
                        }
                        float4 _1853[4] = { float4(as_type<float>(raw[_1405][0].x), as_type<float>(raw[_1405][1].x), as_type<float>(raw[_1405][2].x), as_type<float>(raw[_1405][3].x)), float4(as_type<float>(raw[_1405][0].y), as_type<float>(raw[_1405][1].y), as_type<float>(raw[_1405][2].y), as_type<float>(raw[_1405][3].y)), float4(as_type<float>(raw[_1405][0].z), as_type<float>(raw[_1405][1].z), as_type<float>(raw[_1405][2].z), as_type<float>(raw[_1405][3].z)), float4(as_type<float>(raw[_1405][0].w), as_type<float>(raw[_1405][1].w), as_type<float>(raw[_1405][2].w), as_type<float>(raw[_1405][3].w)) };
                        uint _842 = ((p.first_expert + slot_expert[_807]) * 64u) + _424;
                        for (uint _1412 = 0u; _1412 < TOKENS; _1412++)
                        {
                            uint _880 = (p.x_stride * (_842 + _1412)) + (_659 >> uint(1));
                            float4 param[4];
                            spvArrayCopyFromStackToStack1(param, _1853);
                            for (uint _1414 = 0u; _1414 < 4u; )
                            {
                                param_1[_1414] = fma(param[_1414].w, _868.x[_880].w, fma(param[_1414].z, _868.x[_880].z, fma(param[_1414].y, _868.x[_880].y, spvFMul(param[_1414].x, _868.x[_880].x))));
                                _1414++;
                                continue;
                            }
                            uint _899 = (_807 * TOKENS) + _1412;
                            uint _922 = _1412 * 4u;
                            bool _936 = ((slot_mask[_807] >> _1412) & 1u) != 0u;
                            float _1419;
                            if (_936)
                            {
                                _1419 = fma(spvFMul(slot_weight[_899], 1.0), param_1[0], acc[_922]);
                            }
                            else
                            {
                                _1419 = acc[_922];
                            }
                            acc[_922] = _1419;
                            uint _1749 = _922 + 1u;
                            float _1765;
                            if (_936)
                            {
                                _1765 = fma(slot_weight[_899], param_1[1], acc[_1749]);
                            }
                            else
                            {
                                _1765 = acc[_1749];
                            }
                            acc[_1749] = _1765;
                            uint _1780 = _922 + 2u;
                            float _1796;
                            if (_936)
                            {
                                _1796 = fma(slot_weight[_899], param_1[2], acc[_1780]);
                            }
                            else
                            {
                                _1796 = acc[_1780];
                            }
                            acc[_1780] = _1796;
                            uint _1811 = _922 + 3u;
                            float _1827;
                            if (_936)
                            {
                                _1827 = fma(slot_weight[_899], param_1[3], acc[_1811]);
                            }
                            else
                            {
                                _1827 = acc[_1811];
                            }
                            acc[_1811] = _1827;
                        }
                    }
                }
            }
        }
        float param_2[32];
        spvArrayCopyFromStackToStack1(param_2, acc);
        for (uint _1381 = 0u; _1381 < _307; )
        {
            partial[(_1381 * THREADS) + gl_LocalInvocationID.x] = param_2[_1381];
            _1381++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1382 = gl_LocalInvocationID.x; _1382 < _336; _1382 += THREADS)
        {
            uint _1305 = (((_1382 / 16u) * THREADS) + ((_1382 / 8u) % 2u)) + (2u * (_1382 % 8u));
            float _1389;
            _1389 = partial[_1305];
            for (uint _1387 = 16u; _1387 < THREADS; )
            {
                _1389 = spvFAdd(_1389, partial[_1305 + _1387]);
                _1387 += 16u;
                continue;
            }
            chunk_sums[_1382] = _1389;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _977 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _982 = _424 + (gl_LocalInvocationID.x / 8u);
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
        uint _1004 = (_982 * p.y_stride) + _977;
        uint _1009 = gl_LocalInvocationID.x % 8u;
        uint _1346 = (((((gl_LocalInvocationID.x / 8u) * 4u) + (_1009 % 4u)) * 2u) + (_1009 / 4u)) * 8u;
        float _1594 = (((((spvFAdd(chunk_sums[_1346], chunk_sums[_1346 + 1u]) + chunk_sums[_1346 + 2u]) + chunk_sums[_1346 + 3u]) + chunk_sums[_1346 + 4u]) + chunk_sums[_1346 + 5u]) + chunk_sums[_1346 + 6u]) + chunk_sums[_1346 + 7u];
        float _1385;
        if ((p.flags & 1u) != 0u)
        {
            _1385 = spvFAdd(_1594, _1023.y[_1004]);
        }
        else
        {
            _1385 = _1594;
        }
        float _1386;
        if ((p.flags & 2u) != 0u)
        {
            _1386 = spvFAdd(_1385, _1039.residual[(_982 * p.residual_stride) + _977]);
        }
        else
        {
            _1386 = _1385;
        }
        _1023.y[_1004] = _1386;
        break;
    } while(false);
}

