// Written by build_shaders.py from shaders/expert_up.comp; do not edit. Compile without fast math.
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
constant uint _429 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _432 = (THREADS * TOKENS);
constant uint _433 = (_432 * 2u);
constant uint _449 = (THREADS / 2u);
constant uint _470 = (TOKENS * 2u);

struct Route
{
    uint route[1];
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
    uint max_tokens;
    uint slots;
};

constant uint _666 = (TOKENS * 2u);
constant bool _699 = (TOKENS >= 4u);
constant bool _701 = (_699 && true);
constant int _702 = _701 ? 2 : 4;
constant uint _703 = (uint(_702) + 0u);
constant bool _750 = (TOKENS >= 4u);
constant bool _751 = (_750 && true);
constant int _752 = _751 ? 2 : 4;
constant uint _753 = (uint(_752) + 0u);

struct X
{
    float4 x[1];
};

constant bool _873 = (TOKENS >= 4u);
constant bool _874 = (_873 && true);
constant int _875 = _874 ? 2 : 4;
constant uint _876 = (uint(_875) + 0u);
constant uint _877 = (_876 * THREADS);
constant uint _896 = (8u * TOKENS);

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _948 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_948, 1u, 1u);

kernel void expert_up_int8(constant Push& p [[buffer(0)]], const device Weights& _190 [[buffer(1)]], const device X& _816 [[buffer(2)]], device Y& _930 [[buffer(3)]], const device Route& _556 [[buffer(4)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_433];
    do
    {
        uint _551 = gl_WorkGroupID.z * TOKENS;
        if (gl_WorkGroupID.y >= _556.route[0])
        {
            break;
        }
        uint _565 = gl_WorkGroupID.y * 4u;
        uint _566 = 16u + _565;
        uint _570 = _556.route[_566];
        uint _573 = _565 + 17u;
        uint _575 = _556.route[_573];
        bool _578 = _551 >= _575;
        bool _595;
        if (!_578)
        {
            _595 = (_570 - p.first_expert) >= p.experts;
        }
        else
        {
            _595 = _578;
        }
        if (_595)
        {
            break;
        }
        uint _615 = (p.first + ((_570 - p.first_expert) * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
        uint _625 = (16u + (p.slots * 4u)) + (gl_WorkGroupID.y * 64u);
        uint x_at[8];
        for (uint _1391 = 0u; _1391 < TOKENS; )
        {
            x_at[_1391] = _556.route[_625 + min((_551 + _1391), (_575 - 1u))] * p.x_stride;
            _1391++;
            continue;
        }
        uint _658 = _575 - _551;
        float acc[16];
        for (uint _1392 = 0u; _1392 < _666; )
        {
            acc[_1392] = 0.0;
            _1392++;
            continue;
        }
        uint _965 = ((p.cols + 7u) / 8u) * 4u;
        uint _1393;
        _1393 = gl_LocalInvocationID.x;
        uint4 raw[4][1];
        bool _689;
        for (;;)
        {
            _689 = _1393 < _965;
            if (_689)
            {
                bool _704 = 0u < _703;
                bool _713;
                if (_704)
                {
                    _713 = _689;
                }
                else
                {
                    _713 = _704;
                }
                if (_713)
                {
                    uint4 _1387[1] = { _190.weights[_615 + _1393] };
                    spvArrayCopyFromStackToStack1(raw[0u], _1387);
                }
                bool _1461 = 1u < _703;
                bool _1467;
                if (_1461)
                {
                    _1467 = (_1393 + THREADS) < _965;
                }
                else
                {
                    _1467 = _1461;
                }
                if (_1467)
                {
                    uint4 _1474[1] = { _190.weights[_615 + (_1393 + THREADS)] };
                    spvArrayCopyFromStackToStack1(raw[1u], _1474);
                }
                bool _1484 = 2u < _703;
                bool _1490;
                if (_1484)
                {
                    _1490 = (_1393 + (2u * THREADS)) < _965;
                }
                else
                {
                    _1490 = _1484;
                }
                if (_1490)
                {
                    uint4 _1497[1] = { _190.weights[_615 + (_1393 + (2u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[2u], _1497);
                }
                bool _1507 = 3u < _703;
                bool _1513;
                if (_1507)
                {
                    _1513 = (_1393 + (3u * THREADS)) < _965;
                }
                else
                {
                    _1513 = _1507;
                }
                if (_1513)
                {
                    uint4 _1520[1] = { _190.weights[_615 + (_1393 + (3u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[3u], _1520);
                }
                for (uint _1406 = 0u; _1406 < 4u; _1406++)
                {
                    uint _748 = _1393 + (_1406 * THREADS);
                    if ((_1406 >= _753) || (_748 >= _965))
                    {
                        continue;
                    }
                    uint _1003 = raw[_1406][0].x ^ 2155905152u;
                    float _1026 = as_type<float>((_1003 & 255u) | 1258291200u) - 8388736.0;
                    float _1034 = as_type<float>(((_1003 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1042 = as_type<float>(((_1003 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1050 = as_type<float>((_1003 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1532 = raw[_1406][0].y ^ 2155905152u;
                    float _1536 = as_type<float>((_1532 & 255u) | 1258291200u) - 8388736.0;
                    float _1541 = as_type<float>(((_1532 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1546 = as_type<float>(((_1532 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1550 = as_type<float>((_1532 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1562 = raw[_1406][0].z ^ 2155905152u;
                    float _1566 = as_type<float>((_1562 & 255u) | 1258291200u) - 8388736.0;
                    float _1571 = as_type<float>(((_1562 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1576 = as_type<float>(((_1562 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1580 = as_type<float>((_1562 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1592 = raw[_1406][0].w ^ 2155905152u;
                    float _1596 = as_type<float>((_1592 & 255u) | 1258291200u) - 8388736.0;
                    float _1601 = as_type<float>(((_1592 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1606 = as_type<float>(((_1592 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1610 = as_type<float>((_1592 >> uint(24)) | 1258291200u) - 8388736.0;
                    for (uint _1410 = 0u; _1410 < TOKENS; _1410 += 4u)
                    {
                        if ((_1410 != 0u) && (_1410 >= _658))
                        {
                            continue;
                        }
                        for (uint _1411 = _1410; _1411 < (_1410 + 4u); _1411++)
                        {
                            if (_1411 >= TOKENS)
                            {
                                continue;
                            }
                            uint _1055 = (_748 >> uint(2)) * 2u;
                            uint _825 = x_at[_1411] + _1055;
                            uint _1625 = x_at[_1411] + (_1055 + 1u);
                            uint _850 = _1411 * 2u;
                            acc[_850] = spvFAdd(acc[_850], fma(_1550, _816.x[_1625].w, fma(_1546, _816.x[_1625].z, fma(_1541, _816.x[_1625].y, fma(_1536, _816.x[_1625].x, fma(_1050, _816.x[_825].w, fma(_1042, _816.x[_825].z, fma(_1034, _816.x[_825].y, spvFMul(_1026, _816.x[_825].x)))))))));
                            uint _1704 = _850 + 1u;
                            acc[_1704] += fma(_1610, _816.x[_1625].w, fma(_1606, _816.x[_1625].z, fma(_1601, _816.x[_1625].y, fma(_1596, _816.x[_1625].x, fma(_1580, _816.x[_825].w, fma(_1576, _816.x[_825].z, fma(_1571, _816.x[_825].y, _1566 * _816.x[_825].x)))))));
                        }
                    }
                }
                _1393 += _877;
                continue;
            }
            else
            {
                break;
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1394 = 0u; _1394 < _429; )
        {
            partial[(_1394 * THREADS) + gl_LocalInvocationID.x] = param[_1394];
            _1394++;
            continue;
        }
        uint _1395;
        _1395 = _449;
        for (; _1395 >= 4u; _1395 /= 2u)
        {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (gl_LocalInvocationID.x < _1395)
            {
                for (uint _1402 = 0u; _1402 < _470; )
                {
                    uint _1200 = (_1402 * THREADS) + gl_LocalInvocationID.x;
                    partial[_1200] = spvFAdd(partial[_1200], partial[_1200 + _1395]);
                    _1402++;
                    continue;
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint _889 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _894 = _551 + (gl_LocalInvocationID.x / 8u);
        bool _897 = gl_LocalInvocationID.x >= _896;
        bool _906;
        if (!_897)
        {
            _906 = _889 >= p.rows;
        }
        else
        {
            _906 = _897;
        }
        if (_906 || (_894 >= _575))
        {
            break;
        }
        uint _918 = gl_LocalInvocationID.x % 8u;
        uint _1241 = _918 / 2u;
        uint _1248 = _615 + _965;
        uint _1396;
        if ((_918 & 1u) == 0u)
        {
            _1396 = ((device uint*)&_190.weights[_1248])[_1241] & 65535u;
        }
        else
        {
            _1396 = ((device uint*)&_190.weights[_1248])[_1241] >> uint(16);
        }
        uint _1282 = _1396 & 32767u;
        uint _1284 = _1282 << uint(13);
        float _1299 = (_1282 < 1024u) ? (as_type<float>(947912704u | _1284) - 6.103515625e-05) : as_type<float>(_1284 + ((_1282 < 31744u) ? 939524096u : 1879048192u));
        float _1397;
        if ((_1396 & 32768u) != 0u)
        {
            _1397 = -_1299;
        }
        else
        {
            _1397 = _1299;
        }
        float _1266 = spvFMul(partial[((((gl_LocalInvocationID.x / 8u) * 2u) + (_918 % 2u)) * THREADS) + _1241], _1397);
        float _1317 = -abs(_1266);
        float _1400;
        do
        {
            if (_1317 < (-87.0))
            {
                _1400 = 0.0;
                break;
            }
            float _1346 = floor(fma(_1317, 1.44269502162933349609375, 0.5));
            float _1352 = fma(_1346, 0.00021219444170128554105758666992188, fma(_1346, -0.693359375, _1317));
            _1400 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _1352, 0.00139819993637502193450927734375), _1352, 0.008333452045917510986328125), _1352, 0.0416657961905002593994140625), _1352, 0.1666666567325592041015625), _1352, 0.5), _1352), _1352, _1352), 1.0) * as_type<float>(uint(int(_1346) + 127) << uint(23));
            break;
        } while(false);
        float _1401;
        if (_1266 < 0.0)
        {
            _1401 = _1266 * _1400;
        }
        else
        {
            _1401 = _1266;
        }
        _930.y[(((gl_WorkGroupID.y * p.max_tokens) + _894) * p.y_stride) + _889] = _1401 / (1.0 + _1400);
        break;
    } while(false);
}

