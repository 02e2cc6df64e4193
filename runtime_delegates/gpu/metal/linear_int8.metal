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
constant uint _337 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _340 = (THREADS * TOKENS);
constant uint _341 = (_340 * 2u);
constant uint _357 = (THREADS / 2u);
constant uint _378 = (TOKENS * 2u);

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

constant uint _524 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _612 = (TOKENS * 2u);
constant bool _645 = (TOKENS >= 4u);
constant bool _647 = (_645 && true);
constant int _648 = _647 ? 2 : 4;
constant uint _649 = (uint(_648) + 0u);
constant bool _696 = (TOKENS >= 4u);
constant bool _697 = (_696 && true);
constant int _698 = _697 ? 2 : 4;
constant uint _699 = (uint(_698) + 0u);

struct X
{
    float4 x[1];
};

constant bool _819 = (TOKENS >= 4u);
constant bool _820 = (_819 && true);
constant int _821 = _820 ? 2 : 4;
constant uint _822 = (uint(_821) + 0u);
constant uint _823 = (_822 * THREADS);

struct Bias
{
    float bias0[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _884 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_884, 1u, 1u);

kernel void linear_int8(constant Push& p [[buffer(0)]], const device Weights& _97 [[buffer(1)]], const device X& _762 [[buffer(2)]], device Y& _550 [[buffer(3)]], const device Bias& _862 [[buffer(4)]], const device Step& _464 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_341];
    do
    {
        uint _459 = gl_WorkGroupID.z * TOKENS;
        uint _466 = _464.step_[0];
        uint _1246;
        if ((p.flags & 2u) != 0u)
        {
            _1246 = _464.step_[2];
        }
        else
        {
            _1246 = 0u;
        }
        if (_459 >= _466)
        {
            break;
        }
        uint _502 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _507 = _459 + (gl_LocalInvocationID.x / 8u);
        uint _520 = ((_507 * p.y_stride) + (gl_WorkGroupID.y * p.y_group)) + _502;
        bool _525 = gl_LocalInvocationID.x < _524;
        bool _533;
        if (_525)
        {
            _533 = _502 < p.rows;
        }
        else
        {
            _533 = _525;
        }
        bool _537 = _533 && (_507 < _466);
        if ((_459 + TOKENS) <= _1246)
        {
            if (_537)
            {
                _550.y[_520] = 0.0;
            }
            break;
        }
        uint _569 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1247 = 0u; _1247 < TOKENS; )
        {
            x_at[_1247] = (min((_459 + _1247), (_466 - 1u)) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1247++;
            continue;
        }
        uint _604 = _466 - _459;
        float acc[16];
        for (uint _1248 = 0u; _1248 < _612; )
        {
            acc[_1248] = 0.0;
            _1248++;
            continue;
        }
        uint _895 = ((p.cols + 7u) / 8u) * 4u;
        uint _1249;
        _1249 = gl_LocalInvocationID.x;
        uint4 raw[4][1];
        bool _635;
        for (;;)
        {
            _635 = _1249 < _895;
            if (_635)
            {
                bool _650 = 0u < _649;
                bool _659;
                if (_650)
                {
                    _659 = _635;
                }
                else
                {
                    _659 = _650;
                }
                if (_659)
                {
                    uint4 _1242[1] = { _97.weights[_569 + _1249] };
                    spvArrayCopyFromStackToStack1(raw[0u], _1242);
                }
                bool _1316 = 1u < _649;
                bool _1322;
                if (_1316)
                {
                    _1322 = (_1249 + THREADS) < _895;
                }
                else
                {
                    _1322 = _1316;
                }
                if (_1322)
                {
                    uint4 _1329[1] = { _97.weights[_569 + (_1249 + THREADS)] };
                    spvArrayCopyFromStackToStack1(raw[1u], _1329);
                }
                bool _1339 = 2u < _649;
                bool _1345;
                if (_1339)
                {
                    _1345 = (_1249 + (2u * THREADS)) < _895;
                }
                else
                {
                    _1345 = _1339;
                }
                if (_1345)
                {
                    uint4 _1352[1] = { _97.weights[_569 + (_1249 + (2u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[2u], _1352);
                }
                bool _1362 = 3u < _649;
                bool _1368;
                if (_1362)
                {
                    _1368 = (_1249 + (3u * THREADS)) < _895;
                }
                else
                {
                    _1368 = _1362;
                }
                if (_1368)
                {
                    uint4 _1375[1] = { _97.weights[_569 + (_1249 + (3u * THREADS))] };
                    spvArrayCopyFromStackToStack1(raw[3u], _1375);
                }
                for (uint _1261 = 0u; _1261 < 4u; _1261++)
                {
                    uint _694 = _1249 + (_1261 * THREADS);
                    if ((_1261 >= _699) || (_694 >= _895))
                    {
                        continue;
                    }
                    uint _933 = raw[_1261][0].x ^ 2155905152u;
                    float _956 = as_type<float>((_933 & 255u) | 1258291200u) - 8388736.0;
                    float _964 = as_type<float>(((_933 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _972 = as_type<float>(((_933 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _980 = as_type<float>((_933 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1387 = raw[_1261][0].y ^ 2155905152u;
                    float _1391 = as_type<float>((_1387 & 255u) | 1258291200u) - 8388736.0;
                    float _1396 = as_type<float>(((_1387 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1401 = as_type<float>(((_1387 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1405 = as_type<float>((_1387 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1417 = raw[_1261][0].z ^ 2155905152u;
                    float _1421 = as_type<float>((_1417 & 255u) | 1258291200u) - 8388736.0;
                    float _1426 = as_type<float>(((_1417 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1431 = as_type<float>(((_1417 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1435 = as_type<float>((_1417 >> uint(24)) | 1258291200u) - 8388736.0;
                    uint _1447 = raw[_1261][0].w ^ 2155905152u;
                    float _1451 = as_type<float>((_1447 & 255u) | 1258291200u) - 8388736.0;
                    float _1456 = as_type<float>(((_1447 >> uint(8)) & 255u) | 1258291200u) - 8388736.0;
                    float _1461 = as_type<float>(((_1447 >> uint(16)) & 255u) | 1258291200u) - 8388736.0;
                    float _1465 = as_type<float>((_1447 >> uint(24)) | 1258291200u) - 8388736.0;
                    for (uint _1265 = 0u; _1265 < TOKENS; _1265 += 4u)
                    {
                        if ((_1265 != 0u) && (_1265 >= _604))
                        {
                            continue;
                        }
                        for (uint _1266 = _1265; _1266 < (_1265 + 4u); _1266++)
                        {
                            if (_1266 >= TOKENS)
                            {
                                continue;
                            }
                            uint _985 = (_694 >> uint(2)) * 2u;
                            uint _771 = x_at[_1266] + _985;
                            uint _1480 = x_at[_1266] + (_985 + 1u);
                            uint _796 = _1266 * 2u;
                            acc[_796] = spvFAdd(acc[_796], fma(_1405, _762.x[_1480].w, fma(_1401, _762.x[_1480].z, fma(_1396, _762.x[_1480].y, fma(_1391, _762.x[_1480].x, fma(_980, _762.x[_771].w, fma(_972, _762.x[_771].z, fma(_964, _762.x[_771].y, spvFMul(_956, _762.x[_771].x)))))))));
                            uint _1559 = _796 + 1u;
                            acc[_1559] += fma(_1465, _762.x[_1480].w, fma(_1461, _762.x[_1480].z, fma(_1456, _762.x[_1480].y, fma(_1451, _762.x[_1480].x, fma(_1435, _762.x[_771].w, fma(_1431, _762.x[_771].z, fma(_1426, _762.x[_771].y, _1421 * _762.x[_771].x)))))));
                        }
                    }
                }
                _1249 += _823;
                continue;
            }
            else
            {
                break;
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1250 = 0u; _1250 < _337; )
        {
            partial[(_1250 * THREADS) + gl_LocalInvocationID.x] = param[_1250];
            _1250++;
            continue;
        }
        uint _1251;
        _1251 = _357;
        for (; _1251 >= 4u; _1251 /= 2u)
        {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (gl_LocalInvocationID.x < _1251)
            {
                for (uint _1257 = 0u; _1257 < _378; )
                {
                    uint _1130 = (_1257 * THREADS) + gl_LocalInvocationID.x;
                    partial[_1130] = spvFAdd(partial[_1130], partial[_1130 + _1251]);
                    _1257++;
                    continue;
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_537)
        {
            break;
        }
        uint _838 = gl_LocalInvocationID.x % 8u;
        uint _1171 = _838 / 2u;
        uint _1178 = _569 + _895;
        uint _1252;
        if ((_838 & 1u) == 0u)
        {
            _1252 = ((device uint*)&_97.weights[_1178])[_1171] & 65535u;
        }
        else
        {
            _1252 = ((device uint*)&_97.weights[_1178])[_1171] >> uint(16);
        }
        uint _1212 = _1252 & 32767u;
        uint _1214 = _1212 << uint(13);
        float _1229 = (_1212 < 1024u) ? (as_type<float>(947912704u | _1214) - 6.103515625e-05) : as_type<float>(_1214 + ((_1212 < 31744u) ? 939524096u : 1879048192u));
        float _1253;
        if ((_1252 & 32768u) != 0u)
        {
            _1253 = -_1229;
        }
        else
        {
            _1253 = _1229;
        }
        float _852 = spvFMul(spvFMul(partial[((((gl_LocalInvocationID.x / 8u) * 2u) + (_838 % 2u)) * THREADS) + _1171], _1253), p.scale);
        float _1256;
        if ((p.flags & 1u) != 0u)
        {
            _1256 = spvFAdd(_852, _862.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _502]);
        }
        else
        {
            _1256 = _852;
        }
        _550.y[_520] = (_507 < _1246) ? 0.0 : _1256;
        break;
    } while(false);
}

