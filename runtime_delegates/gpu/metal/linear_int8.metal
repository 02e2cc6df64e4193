// Written by build_shaders.py from shaders/linear.comp; do not edit. Compile without fast math.
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
constant uint _378 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _381 = (THREADS * TOKENS);
constant uint _382 = (_381 * 2u);
constant uint _407 = (64u * TOKENS);
constant uint _443 = (64u * TOKENS);
constant bool _499 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint tiles_per_group;
    uint row_offset;
    uint rows;
    uint cols;
    uint x_stride;
    uint x_group;
    uint y_stride;
    uint y_group;
    uint bias_at;
    uint flags;
    float scale;
};

constant uint _568 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _669 = (TOKENS * 2u);
constant bool _701 = (TOKENS >= 4u);
constant bool _703 = (_701 && true);
constant int _704 = _703 ? 2 : 4;
constant uint _705 = (uint(_704) + 0u);
constant bool _761 = (TOKENS >= 4u);
constant bool _762 = (_761 && true);
constant int _763 = _762 ? 2 : 4;
constant uint _764 = (uint(_763) + 0u);

struct X
{
    float4 x[1];
};

constant bool _884 = (TOKENS >= 4u);
constant bool _885 = (_884 && true);
constant int _886 = _885 ? 2 : 4;
constant uint _887 = (uint(_886) + 0u);
constant uint _888 = (_887 * THREADS);

struct Bias
{
    float bias0[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _940 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_940, 1u, 1u);

kernel void linear_int8(constant Push& p [[buffer(0)]], const device Weights& _103 [[buffer(1)]], const device X& _827 [[buffer(2)]], device Y& _594 [[buffer(3)]], const device Bias& _918 [[buffer(4)]], const device Step& _507 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_382];
    threadgroup float chunk_sums[_443];
    do
    {
        uint _497 = gl_WorkGroupID.z * TOKENS;
        uint _1329;
        if (_499)
        {
            _1329 = 1u;
        }
        else
        {
            _1329 = _507.step_[0];
        }
        uint _1330;
        if ((p.flags & 2u) != 0u)
        {
            _1330 = _507.step_[2];
        }
        else
        {
            _1330 = 0u;
        }
        if (_497 >= _1329)
        {
            break;
        }
        uint _546 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _551 = _497 + (gl_LocalInvocationID.x / 8u);
        uint _564 = ((_551 * p.y_stride) + (gl_WorkGroupID.y * p.y_group)) + _546;
        bool _569 = gl_LocalInvocationID.x < _568;
        bool _577;
        if (_569)
        {
            _577 = _546 < p.rows;
        }
        else
        {
            _577 = _569;
        }
        bool _580 = _551 < _1329;
        bool _581 = _577 && _580;
        if ((_497 + TOKENS) <= _1330)
        {
            if (_581)
            {
                _594.y[_564] = 0.0;
            }
            break;
        }
        uint _613 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1331 = 0u; _1331 < TOKENS; )
        {
            x_at[_1331] = ((_497 + _1331) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1331++;
            continue;
        }
        uint _645 = _1329 - _497;
        uint _652 = gl_LocalInvocationID.x % 8u;
        uint _977 = ((p.cols + 7u) / 8u) * 4u;
        uint _955 = _613 + _977;
        uint _957 = _652 / 2u;
        uint _1332;
        if ((_652 & 1u) == 0u)
        {
            _1332 = ((device uint*)&_103.weights[_955])[_957] & 65535u;
        }
        else
        {
            _1332 = ((device uint*)&_103.weights[_955])[_957] >> uint(16);
        }
        uint _986 = _1332 & 32767u;
        uint _988 = _986 << uint(13);
        float _1003 = (_986 < 1024u) ? (as_type<float>(947912704u | _988) - 6.103515625e-05) : as_type<float>(_988 + ((_986 < 31744u) ? 939524096u : 1879048192u));
        float _1333;
        if ((_1332 & 32768u) != 0u)
        {
            _1333 = -_1003;
        }
        else
        {
            _1333 = _1003;
        }
        float _661 = spvFMul(p.scale, _1333);
        float acc[16];
        for (uint _1334 = 0u; _1334 < _669; )
        {
            acc[_1334] = 0.0;
            _1334++;
            continue;
        }
        uint _1335;
        _1335 = gl_LocalInvocationID.x;
        uint4 raw[4][1];
        bool _691;
        for (;;)
        {
            _691 = _1335 < _977;
            if (_691)
            {
                bool _706 = 0u < _705;
                bool _715;
                if (_706)
                {
                    _715 = _691;
                }
                else
                {
                    _715 = _706;
                }
                if (_715)
                {
                    uint4 _1325[1] = { _103.weights[_613 + _1335] };
                    spvArrayCopyFromStackToStack1(raw[0u], _1325);
                }
                bool _1472 = 1u < _705;
                bool _1478;
                if (_1472)
                {
                    _1478 = (_1335 + THREADS) < _977;
                }
                else
                {
                    _1478 = _1472;
                }
                if (_1478)
                {
                    uint4 _1485[1] = { _103.weights[_613 + (_1335 + THREADS)] };
                    spvArrayCopyFromStackToStack1(raw[1u], _1485);
                }
                bool _1495 = 2u < _705;
                bool _1501;
                if (_1495)
                {
                    _1501 = (_1335 + (2u * THREADS)) < _977;
                }
                else
                {
                    _1501 = _1495;
                }
                if (_1501)
                {
                    uint4 _1508[1] = { _103.weights[_613 + (_1335 + (2u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[2u], _1508);
                }
                bool _1518 = 3u < _705;
                bool _1524;
                if (_1518)
                {
                    _1524 = (_1335 + (3u * THREADS)) < _977;
                }
                else
                {
                    _1524 = _1518;
                }
                if (_1524)
                {
                    uint4 _1531[1] = { _103.weights[_613 + (_1335 + (3u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[3u], _1531);
                }
                for (uint _1345 = 0u; _1345 < 4u; _1345++)
                {
                    uint _759 = _1335 + (_1345 * THREADS);
                    if ((_1345 >= _764) || (_759 >= _977))
                    {
                        continue;
                    }
                    uint _1064 = raw[_1345][0].x ^ 2155905152u;
                    float _1087 = as_type<float>((_1064 & 255u) | 1258291200u) - 8388736.0;
                    float _1095 = as_type<float>(((_1064 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1103 = as_type<float>(((_1064 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1111 = as_type<float>((_1064 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1543 = raw[_1345][0].y ^ 2155905152u;
                    float _1547 = as_type<float>((_1543 & 255u) | 1258291200u) - 8388736.0;
                    float _1552 = as_type<float>(((_1543 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1557 = as_type<float>(((_1543 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1561 = as_type<float>((_1543 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1573 = raw[_1345][0].z ^ 2155905152u;
                    float _1577 = as_type<float>((_1573 & 255u) | 1258291200u) - 8388736.0;
                    float _1582 = as_type<float>(((_1573 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1587 = as_type<float>(((_1573 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1591 = as_type<float>((_1573 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1603 = raw[_1345][0].w ^ 2155905152u;
                    float _1607 = as_type<float>((_1603 & 255u) | 1258291200u) - 8388736.0;
                    float _1612 = as_type<float>(((_1603 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1617 = as_type<float>(((_1603 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1621 = as_type<float>((_1603 >> uint(24)) | 1258291200u) - 8388736.0;
                    for (uint _1349 = 0u; _1349 < TOKENS; _1349 += 4u)
                    {
                        if ((_1349 != 0u) && (_1349 >= _645))
                        {
                            continue;
                        }
                        for (uint _1350 = _1349; _1350 < (_1349 + 4u); _1350++)
                        {
                            if (_1350 >= TOKENS)
                            {
                                continue;
                            }
                            uint _1116 = (_759 >> uint(2)) * 2u;
                            uint _836 = x_at[_1350] + _1116;
                            uint _1636 = x_at[_1350] + (_1116 + 1u);
                            uint _861 = _1350 * 2u;
                            acc[_861] = spvFAdd(acc[_861], fma(_1561, _827.x[_1636].w, fma(_1557, _827.x[_1636].z, fma(_1552, _827.x[_1636].y, fma(_1547, _827.x[_1636].x, fma(_1111, _827.x[_836].w, fma(_1103, _827.x[_836].z, fma(_1095, _827.x[_836].y, spvFMul(_1087, _827.x[_836].x)))))))));
                            uint _1715 = _861 + 1u;
                            acc[_1715] += fma(_1621, _827.x[_1636].w, fma(_1617, _827.x[_1636].z, fma(_1612, _827.x[_1636].y, fma(_1607, _827.x[_1636].x, fma(_1591, _827.x[_836].w, fma(_1587, _827.x[_836].z, fma(_1582, _827.x[_836].y, _1577 * _827.x[_836].x)))))));
                        }
                    }
                }
                _1335 += _888;
                continue;
            }
            else
            {
                break;
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1336 = 0u; _1336 < _378; )
        {
            partial[(_1336 * THREADS) + gl_LocalInvocationID.x] = param[_1336];
            _1336++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1337 = gl_LocalInvocationID.x; _1337 < _407; _1337 += THREADS)
        {
            uint _1261 = (((_1337 / 32u) * THREADS) + ((_1337 / 8u) % 4u)) + (4u * (_1337 % 8u));
            float _1343;
            _1343 = partial[_1261];
            for (uint _1341 = 32u; _1341 < THREADS; )
            {
                _1343 = spvFAdd(_1343, partial[_1261 + _1341]);
                _1341 += 32u;
                continue;
            }
            chunk_sums[_1337] = _1343;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_581)
        {
            break;
        }
        uint _1302 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_652 % 2u)) * 4u) + _957) * 8u;
        float _908 = spvFMul((((((spvFAdd(chunk_sums[_1302], chunk_sums[_1302 + 1u]) + chunk_sums[_1302 + 2u]) + chunk_sums[_1302 + 3u]) + chunk_sums[_1302 + 4u]) + chunk_sums[_1302 + 5u]) + chunk_sums[_1302 + 6u]) + chunk_sums[_1302 + 7u], _661);
        float _1340;
        if ((p.flags & 1u) != 0u)
        {
            _1340 = spvFAdd(_908, _918.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _546]);
        }
        else
        {
            _1340 = _908;
        }
        _594.y[_564] = (_551 < _1330) ? 0.0 : _1340;
        break;
    } while(false);
}

